"""Exports of annotation programs, by their published formats, moved as docs/own_data.md says."""

import json

import pytest

from sognet_jax.category_files import category_set
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.coco.builder import preparation
from sognet_jax.data.sources.preparation import prepare
from sognet_jax.programs import prepare as program
from tests.support.coco_source import SPLIT, write_source


@pytest.fixture
def drawn(tmp_path):
    """Drawn images, and their instances as polygons."""
    root = write_source(tmp_path / 'drawn', panoptic=False)
    content = json.loads((root / 'annotations' / f'instances_{SPLIT}.json').read_text())
    for entry in content['annotations']:
        x, y, w, h = entry['bbox']
        entry['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        entry['area'] = w * h
    return root, content


def cvat(drawn, root):
    """COCO 1.0 of CVAT: `images/` and `annotations/instances_default.json`."""
    folder, content = drawn
    (root / 'annotations').mkdir(parents=True)
    (folder / SPLIT).rename(root / 'images')
    for image in content['images']:
        image.update(license=0, flickr_url='', coco_url='', date_captured=0)
    for entry in content['annotations']:
        entry.update(attributes={'occluded': False})
    for category in content['categories']:
        category.update(supercategory='')
    content.update(licenses=[{'name': '', 'id': 0, 'url': ''}], info={'contributor': ''})
    (root / 'annotations' / 'instances_default.json').write_text(json.dumps(content))
    (root / 'images').rename(root / 'default')
    return 'default'


def labelme(drawn, root):
    """What `labelme2coco.py` of labelme writes: `annotations.json` and `JPEGImages/`; ids count from 0."""
    folder, content = drawn
    root.mkdir()
    (folder / SPLIT).rename(root / 'JPEGImages')
    numbers = {category['id']: number for number, category in enumerate(content['categories'])}
    for number, image in enumerate(content['images']):
        image.update(id=number, file_name=f'JPEGImages/{image["file_name"]}', license=0, url=None, date_captured=None)
    for number, entry in enumerate(content['annotations']):
        entry.update(id=number, image_id=entry['image_id'] - 1, category_id=numbers[entry['category_id']])
    for category in content['categories']:
        category.update(id=numbers[category['id']], supercategory=None)
    content.update(info={'description': None}, licenses=[{'url': None, 'id': 0, 'name': None}], type='instances')
    (root / 'annotations.json').write_text(json.dumps(content))
    (root / 'annotations').mkdir()
    (root / 'annotations.json').rename(root / 'annotations' / 'instances_train.json')
    (root / 'train').mkdir()
    (root / 'JPEGImages').rename(root / 'train' / 'JPEGImages')
    return 'train'


def roboflow(drawn, root):
    """COCO of Roboflow: `train/_annotations.coco.json` beside the images, and a class 0 that nothing is of."""
    folder, content = drawn
    root.mkdir()
    (folder / SPLIT).rename(root / 'train')
    for image in content['images']:
        image.update(license=1, date_captured='2026-01-01T00:00:00+00:00', extra={'name': image['file_name']})
    for category in content['categories']:
        category.update(supercategory='things')
    content['categories'].insert(0, {'id': 0, 'name': 'things', 'supercategory': 'none'})
    content.update(info={'year': '2026'}, licenses=[{'id': 1, 'url': '', 'name': 'CC BY 4.0'}])
    (root / 'train' / '_annotations.coco.json').write_text(json.dumps(content))
    (root / 'annotations').mkdir()
    (root / 'train' / '_annotations.coco.json').rename(root / 'annotations' / 'instances_train.json')
    return 'train'


@pytest.mark.parametrize('export', [cvat, labelme, roboflow])
def test_an_export_is_prepared_with_its_own_categories(export, drawn, tmp_path, capsys):
    root = tmp_path / 'export'
    expected = len(drawn[1]['annotations'])
    split = export(drawn, root)
    listed = root / 'annotations' / f'instances_{split}.json'
    arguments = ['coco_format', '--source', str(root), '--categories', str(listed), '--workers', '1']
    assert program.main([*arguments, '--data_dir', str(tmp_path / 'data')]) == 0
    said = capsys.readouterr().out
    assert f'{split}: 2 images' in said
    for field, of in {'attributes': cvat, 'extra': roboflow}.items():
        assert (f'the field {field!r}' in said) == (export is of)
    categories = category_set(str(listed))
    assert categories.num_stuff == 0 and categories.num_things == 10 + (export is roboflow)
    records = RecordSource(prepare(preparation(root, split, categories), tmp_path / 'data').folder, split)
    assert sum(len(record.instances.id) for record in records) == expected
    assert all(record.has_relations and not record.has_panoptic for record in records)
    names = {categories.things[c].name for record in records for c in record.instances.category}
    assert 'things' not in names and names <= {
        'tray',
        'rug',
        'ball',
        'box',
        'cone',
        'cross',
        'egg',
        'star',
        'ring',
        'leaf',
    }


def test_boxes_without_masks_are_refused_by_name(drawn, tmp_path, capsys):
    """As detection projects export them."""
    for entry in drawn[1]['annotations']:
        entry['segmentation'] = []
    split = roboflow(drawn, tmp_path / 'export')
    listed = tmp_path / 'export' / 'annotations' / f'instances_{split}.json'
    assert (
        program.main(['coco_format', '--source', str(tmp_path / 'export'), '--categories', str(listed), '--check']) == 1
    )
    assert 'segmentation is [], expected polygons' in capsys.readouterr().err

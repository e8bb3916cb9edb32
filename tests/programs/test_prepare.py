"""The command that prepares data sets, on data of the user's own in COCO's layout."""

import json
import shutil

import cv2
import numpy as np
import pytest

from sognet_jax.configs import coco_r50, order, shapes
from sognet_jax.data.configured import prepare_split, training_source
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.id_maps import encode_ids
from sognet_jax.programs.prepare import found_splits, main
from tests.support.order_sources import paint, write

CATEGORIES = [
    {'id': 5, 'name': 'soil', 'isthing': 0},
    {'id': 9, 'name': 'leaf', 'isthing': 1, 'color': [10, 200, 30]},
    {'id': 2, 'name': 'beetle', 'isthing': 1},
]
SIDE = 32


@pytest.fixture
def source(tmp_path):
    """Splits `summer` of two images, a beetle on a leaf each, and `winter` of one without annotations."""
    root = tmp_path / 'garden'
    for folder in ('annotations/panoptic_summer', 'summer', 'winter'):
        (root / folder).mkdir(parents=True)
    images, instances, panoptic = [], [], []
    for number in (1, 2):
        ids = np.full((SIDE, SIDE), 7)
        ids[4:20, 4:28], ids[8:14, 10:16] = 300, 70000
        (root / f'annotations/panoptic_summer/{number}.png').write_bytes(encode_ids(ids))
        cv2.imwrite(str(root / f'summer/{number}.png'), np.full((SIDE, SIDE, 3), 50 * number, np.uint8))
        images.append({'id': number, 'file_name': f'{number}.png', 'height': SIDE, 'width': SIDE})
        for which, (category, (x, y, w, h)) in enumerate([(9, (4, 4, 24, 16)), (2, (10, 8, 6, 6))]):
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            instances.append(
                {'id': 10 * number + which, 'image_id': number, 'category_id': category, 'bbox': [x, y, w, h],
                 'segmentation': [polygon], 'iscrowd': 0}
            )  # fmt: skip
        info = [{'id': 7, 'category_id': 5}, {'id': 300, 'category_id': 9}, {'id': 70000, 'category_id': 2}]
        panoptic.append({'image_id': number, 'file_name': f'{number}.png', 'segments_info': info})
    cv2.imwrite(str(root / 'winter/3.png'), np.zeros((20, 30, 3), np.uint8))
    bare = {'images': [{'id': 3, 'file_name': '3.png', 'height': 20, 'width': 30}]}
    contents = {
        'instances_summer': {'images': images, 'annotations': instances, 'categories': CATEGORIES[1:]},
        'panoptic_summer': {'images': images, 'annotations': panoptic, 'categories': CATEGORIES},
        'image_info_winter': bare,
    }
    for name, content in contents.items():
        (root / 'annotations' / f'{name}.json').write_text(json.dumps(content))
    (root / 'categories.json').write_text(json.dumps(CATEGORIES))
    return root


def arguments(source, *more):
    return [
        'coco_format', f'--source={source}', f'--categories={source / "categories.json"}',
        f'--data_dir={source / "data"}', '--workers=0', *more,
    ]  # fmt: skip


def test_own_data_are_prepared_and_found_again_by_a_config(source, capsys):
    assert main(arguments(source, f'--overlaps={source / "overlaps.json"}')) == 0
    assert 'summer: 2 images in' in capsys.readouterr().out
    config = coco_r50.get_config()
    config.categories = str(source / 'categories.json')
    config.data.update(name='coco_format', source=str(source), dir=str(source / 'data'), train_split='summer')
    stored = prepare_split(config, 'summer')
    assert [category.name for category in stored.categories.all] == ['soil', 'leaf', 'beetle']
    assert stored[1].instances.category.tolist() == [0, 1] and stored[1].segments.category.tolist() == [0, 1, 2]
    overlaps = json.loads((source / 'overlaps.json').read_text())
    assert set(overlaps) == {'1', '2'}  # of the other split it is not known which instances overlap
    assert [pair['top'] for pair in overlaps['2']['pairs']] == [21]
    config.data.also_train_on = ((str(source), 'winter'),)
    mixed = training_source(config)
    assert [record.has_instances for record in mixed] == [True, True, False]


def test_other_categories_than_those_of_the_data_are_refused(source):
    main(arguments(source))
    config = coco_r50.get_config()
    config.data.update(name='coco_format', source=str(source), dir=str(source / 'data'))
    (source / 'other.json').write_text(json.dumps([entry | {'name': entry['name'] + 's'} for entry in CATEGORIES]))
    config.categories = str(source / 'other.json')
    with pytest.raises(ValueError, match="'leaf' here|'soil' here"):
        prepare_split(config, 'summer')


def test_a_config_that_mixes_data_sets_up_is_refused(tmp_path):
    config = shapes.get_config()
    config.categories = 'coco'
    config.data.update(dir=str(tmp_path), num_train=2, num_validation=1)
    with pytest.raises(ValueError, match="categories = 'coco' has other categories than the data in"):
        prepare_split(config, 'train')


def test_checking_stores_nothing(source, capsys):
    assert main(arguments(source, '--check')) == 0
    assert capsys.readouterr().out.splitlines() == [
        'summer: 0 problems in 2 images', 'winter: 0 problems in 1 images',
    ]  # fmt: skip
    assert not (source / 'data').exists()


def test_a_split_without_images_is_none(source, capsys):
    (source / 'annotations/image_info_winter.json').write_text('{"images": [], "categories": []}')
    assert main(arguments(source, '--check', '--splits', 'winter')) == 1
    assert 'there is not one image that can be used' in capsys.readouterr().err


def test_a_report_of_before_is_replaced(source, capsys):
    listed = source / 'problems.txt'
    listed.write_text('what has been mended since')
    assert main(arguments(source, '--check', f'--report={listed}')) == 0
    assert listed.read_text() == '0 problems:\n' and f'0 problems: {listed}' in capsys.readouterr().err


def test_problems_are_reported_and_the_rest_can_be_stored(source, capsys):
    (source / 'summer/1.png').unlink()
    (source / 'annotations/panoptic_summer/2.png').write_bytes(b'')
    listed = source / 'problems.txt'
    assert main(arguments(source, '--check', f'--report={listed}')) == 1
    text = listed.read_text()
    assert '1.png, image 1: is missing' in text and '2.png, image 2: panoptic PNG is not a PNG' in text
    assert main(arguments(source)) == 1
    shown = capsys.readouterr().err
    assert 'is missing' in shown and '--leave_out_broken' in shown
    assert not list(source.rglob('*.array_record*'))
    (source / 'annotations/panoptic_summer/2.png').write_bytes(
        encode_ids(np.where(np.eye(SIDE), 7, np.where(np.tri(SIDE), 300, 70000)))
    )
    assert main(arguments(source, '--leave_out_broken', '--splits', 'summer')) == 0
    folder = next((source / 'data' / 'coco_format').glob('summer_*/2.0.0'))
    assert [record.image_id for record in RecordSource(folder, 'summer')] == [2]


def test_every_split_and_every_file_is_judged_before_anything_is_stored(source, capsys):
    (source / 'summer/1.png').unlink()
    (source / 'annotations/image_info_winter.json').write_text('{"images": [')
    assert main(arguments(source, f'--report={source / "problems.txt"}')) == 1
    shown, listed = capsys.readouterr().err, (source / 'problems.txt').read_text()
    for text in ('1.png, image 1: is missing', 'image_info_winter.json: is not valid JSON'):
        assert text in shown and text in listed
    assert not list(source.rglob('*.array_record*'))
    assert main(arguments(source, '--leave_out_broken', '--splits', 'summer')) == 0
    assert main(arguments(source, '--leave_out_broken', '--splits', 'summer')) == 0
    assert 'without 1 problems that were left out before: --check lists them' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['a b', 'all', 'train[1]', 'a/b', '../up', 'a+b', ''])
def test_names_that_splits_cannot_have_are_refused_early(source, capsys, name):
    assert main(arguments(source, '--splits', name)) == 1
    assert f'a split cannot be called {name!r}' in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(source, capsys):
    (source / 'data').write_text('a file')
    assert main(arguments(source)) == 1
    shown = capsys.readouterr().err
    assert str(source / 'data') in shown and 'Traceback' not in shown


def test_wrong_arguments_end_in_one_line(source, capsys):
    without = [argument for argument in arguments(source) if 'categories' not in argument]
    for wrong, message in [
        (without, 'needs --categories'),
        (['coco', *arguments(source)[1:]], 'needs --categories'),
        (['coco', f'--source={source}'], 'no split found'),
        (['cityscapes', f'--source={source}'], 'no split found'),
        (arguments(source, '--splits', 'spring'), 'has none of instances_spring.json'),
        (arguments(source / 'gone', '--splits', 'summer'), 'gone'),
        (arguments(source, '--annotations_only', '--overlaps=o.json'), 'are not found with --annotations_only'),
    ]:
        assert main(wrong) == 1
        assert message in capsys.readouterr().err, wrong


def test_splits_are_those_of_any_annotation_file(source):
    assert found_splits('coco_format', source) == ['summer', 'winter']


def test_images_with_a_known_order_are_prepared_and_trained_on(tmp_path, capsys):
    """One class for all without `--categories`, their own with it; `data.also_train_on` adds splits."""
    rng = np.random.default_rng(0)
    root = write(tmp_path / 'tables', 'syntable', [paint(rng, 6, 'a.png'), paint(rng, 5, 'b.png')])
    shutil.copy(root / 'table.json', root / 'again.json')
    data = ['syntable', f'--source={root}', f'--data_dir={tmp_path / "data"}', '--workers=0']
    assert found_splits('syntable', root) == ['again', 'table']
    assert main([*data, '--splits', 'table', f'--overlaps={tmp_path / "overlaps.json"}']) == 0
    overlaps = json.loads((tmp_path / 'overlaps.json').read_text())
    assert all(pair['state'] == 'no_panoptic' and pair['top'] for pair in overlaps['rgb/a']['pairs'])
    assert main([*data, '--categories=coco', '--check']) == 1
    assert "'plate' is none of the things of coco" in capsys.readouterr().err
    config = order.get_config()
    config.data.update(name='syntable', source=str(root), dir=str(tmp_path / 'data'), train_split='table')
    config.data.also_train_on = ((str(root), 'again'),)
    assert len(training_source(config)) == 4
    assert main(['cityscapes', f'--source={root}', '--categories=coco']) == 1
    assert 'coco_format needs --categories, and this is cityscapes' in capsys.readouterr().err

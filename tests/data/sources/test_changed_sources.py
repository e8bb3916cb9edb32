"""A prepared copy and its source: what has changed is prepared again, what is partial or without a source is said."""

import json
import os
import shutil

import numpy as np
import pytest

from sognet_jax.category_files import category_set
from sognet_jax.data.configured import prepare_split
from sognet_jax.data.records.relations import rle_boxes
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.coco.builder import preparation
from sognet_jax.data.sources.preparation import check, prepare
from sognet_jax.id_maps import decode_ids, encode_ids
from sognet_jax.problems import InputError
from tests.support.coco_source import SPLIT, write_source
from tests.support.examples import tiny_config


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / 'source')


def prepared(source, **options):
    categories = category_set(str(source / 'categories.json'))
    folder = prepare(preparation(source, SPLIT, categories), source.parent / 'data', workers=0, **options).folder
    return folder, RecordSource(folder, SPLIT)


def test_repainted_files_are_prepared_again_and_the_older_copy_is_named(source, capfd):
    folder, before = prepared(source)
    assert prepared(source)[0] == folder and 'older' not in capfd.readouterr().err
    image = source / SPLIT / '000.png'
    image.write_bytes((source / SPLIT / '001.png').read_bytes())
    again, after = prepared(source)
    assert again != folder and after[0].image_bytes != before[0].image_bytes
    assert f'{folder} is older than its source' in capfd.readouterr().err
    png = source / 'annotations' / f'panoptic_{SPLIT}' / '000.png'
    os.utime(png, ns=(1, 1))
    assert prepared(source)[0] not in (folder, again)


def test_an_image_that_was_left_out_and_arrives_is_prepared(source, capfd):
    missing = source / SPLIT / '001.png'
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(InputError, match='001.png, image 2: is missing'):
        prepared(source)
    _, partial = prepared(source, leave_out_broken=True)
    assert len(partial) == 1 and partial.left_out == 1
    config = tiny_config()
    config.categories, config.data.name = str(source / 'categories.json'), 'coco_format'
    config.data.source, config.data.dir = str(source), str(source.parent / 'data')
    capfd.readouterr()
    assert len(prepare_split(config, SPLIT)) == 1
    assert f'{partial.folder} is not the whole of its source: 1 problems were left out' in capfd.readouterr().err
    missing.write_bytes(content)
    _, whole = prepared(source)
    assert len(whole) == 2 and whole.left_out == 0


def test_a_copy_whose_source_is_gone_is_used(source, capfd):
    folder, _ = prepared(source)
    shutil.rmtree(source / SPLIT)
    assert prepared(source)[0] == folder
    assert f'{folder} is used: its source is not there any more' in capfd.readouterr().err


def test_copies_of_other_sources_and_splits_are_not_taken_for_older_ones(source, capfd):
    prepared(source)
    other = write_source(source.parent / 'other', first=5)
    prepare(preparation(other, SPLIT, category_set(str(other / 'categories.json'))), source.parent / 'data', workers=0)
    assert 'older' not in capfd.readouterr().err


def test_masks_of_other_images_are_noticed(source):
    """One of the two annotations is of other images: image by image nothing is wrong."""
    path = source / 'annotations' / f'instances_{SPLIT}.json'
    content = json.loads(path.read_text())
    for entry in content['annotations']:
        entry['image_id'] = 3 - entry['image_id']
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match='only 0 lie where one of the other and of their class does'):
        prepared(source, leave_out_broken=True)


def test_what_desktops_leave_changes_nothing_and_what_links_lead_to_does(source):
    elsewhere = source.parent / 'elsewhere'
    shutil.move(source / SPLIT, elsewhere / 'inner')
    (source / SPLIT).symlink_to(elsewhere, target_is_directory=True)
    edit(
        source, 'instances', lambda content: [e.update(file_name=f'inner/{e["file_name"]}') for e in content['images']]
    )
    edit(
        source, 'panoptic', lambda content: [e.update(file_name=f'./inner/{e["file_name"]}') for e in content['images']]
    )
    (elsewhere / 'inner' / 'round').symlink_to(elsewhere, target_is_directory=True)
    folder, _ = prepared(source)
    for name in ('.DS_Store', 'Thumbs.db', '.nfs0000'):
        (source / SPLIT / name).write_text('for the eyes of a desktop')
    assert prepared(source)[0] == folder
    os.utime(elsewhere / 'inner' / '001.png', ns=(1, 1))
    assert prepared(source)[0] != folder


def test_without_the_source_a_whole_copy_is_taken_before_a_newer_one_of_a_part(source):
    whole, _ = prepared(source)
    (source / SPLIT / '001.png').unlink()
    partial, _ = prepared(source, leave_out_broken=True)
    assert partial != whole
    shutil.rmtree(source / SPLIT)
    assert prepared(source)[0] == whole


def test_findings_that_cannot_be_read_are_found_again(source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'rmtree', lambda *_, **__: None)
        folder, _ = prepared(source)
    findings = list(folder.parent.parent.glob('*.examined/*.pickle'))
    assert findings
    for path in findings:
        path.write_bytes(b'')
    shutil.rmtree(folder.parent)
    assert len(prepared(source)[1]) == 2
    assert not list(folder.parent.parent.glob('*.examined'))


def test_one_file_of_two_that_is_gone_is_said(source):
    (source / 'annotations' / f'instances_{SPLIT}.json').unlink()
    found = check(preparation(source, SPLIT, category_set(str(source / 'categories.json'))), workers=0)
    assert found.notes == {'there is no instances_train.json: nothing is learned of boxes, masks and overlaps': 1}


@pytest.mark.parametrize('field', ['images', 'annotations', 'categories'])
def test_a_field_that_stands_twice_in_a_file_is_refused(source, field):
    path = source / 'annotations' / f'instances_{SPLIT}.json'
    path.write_text(path.read_text()[:-1] + f', "{field}": []}}')
    with pytest.raises(InputError, match=f'instances_train.json: {field} .*expected a field that is there once'):
        prepared(source)


def test_pictures_and_maps_of_one_name_with_two_endings_belong_together(source):
    shutil.copy(source / SPLIT / '000.png', source / SPLIT / '001.jpg')
    shutil.move(
        source / 'annotations' / f'panoptic_{SPLIT}' / '000.png',
        source / 'annotations' / f'panoptic_{SPLIT}' / '001_2.png',
    )

    def renamed(content):
        content['images'][0]['file_name'] = '001.jpg'
        if 'segments_info' in content['annotations'][0]:
            content['annotations'][0]['file_name'] = '001_2.png'

    edit(source, 'instances', renamed)
    edit(source, 'panoptic', renamed)
    assert len(prepared(source)[1]) == 2


def edit(source, kind, change):
    path = source / 'annotations' / f'{kind}_{SPLIT}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_maps_full_of_things_beside_no_instances_are_noticed(tmp_path):
    source = write_source(tmp_path / 'source', count=4)
    edit(source, 'instances', lambda content: content.update(annotations=[]))
    with pytest.raises(InputError, match='of 0 instances and .* only 0 lie where'):
        prepared(source)


def test_maps_of_stuff_alone_are_taken_and_said(tmp_path):
    source = write_source(tmp_path / 'source', count=4)
    things = {entry['id'] for entry in json.loads((source / 'categories.json').read_text()) if entry['isthing']}

    def without_things(content):
        for entry in content['annotations']:
            path = source / 'annotations' / f'panoptic_{SPLIT}' / entry['file_name']
            ids = decode_ids(path.read_bytes())
            kept = [segment for segment in entry['segments_info'] if segment['category_id'] not in things]
            path.write_bytes(encode_ids(np.where(np.isin(ids, [segment['id'] for segment in kept]), ids, 0)))
            entry['segments_info'] = kept

    edit(source, 'panoptic', without_things)
    found = check(preparation(source, SPLIT, category_set(str(source / 'categories.json'))), workers=0)
    assert not found.problems and any('panoptic maps have no things' in note for note in found.notes)


@pytest.mark.parametrize(('share', 'is_problem'), [(0.15, False), (0.6, True)])
def test_some_boxes_may_be_of_the_whole_thing_many_may_not(tmp_path, share, is_problem):
    """Amodal boxes beside masks of what is seen."""
    source = write_source(tmp_path / 'source', count=8)
    changed = []

    def longer(content):
        for entry in content['annotations'][: round(share * len(content['annotations']))]:
            x, y, width, height = entry['bbox']
            entry['bbox'] = [x, y, width * 0.5, height * 0.6]
            changed.append(entry['id'])

    edit(source, 'instances', longer)
    found = check(preparation(source, SPLIT, category_set(str(source / 'categories.json'))), workers=0)
    assert bool(found.problems) == is_problem
    assert len(changed) == (
        len(found.problems) or sum(count for note, count in found.notes.items() if 'bbox and mask disagree' in note)
    )
    if not is_problem:
        for examined in found.images():
            instances = examined.record.instances
            assert instances.box.tolist() == rle_boxes(instances.rles).tolist()

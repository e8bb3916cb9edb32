"""The COCO reader: what it takes from the official layout, and how it reports what is broken."""

import json

import cv2
import numpy as np
import pytest

from sognet_jax.categories import COCO
from sognet_jax.data.coco.builder import preparation
from sognet_jax.data.png import decode_ids, encode_ids
from sognet_jax.data.preparation import check, store
from sognet_jax.data.storage import RecordSource

HEIGHT, WIDTH = 40, 60
PERSON, TIE, GRASS = 1, 32, 193


@pytest.fixture
def source(tmp_path):
    """One image: a person, a tie on it, grass behind, and a crowd of persons."""
    root = tmp_path / 'source'
    (root / 'annotations' / 'panoptic_val').mkdir(parents=True)
    (root / 'val').mkdir()
    cv2.imwrite(str(root / 'val' / '7.jpg'), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    ids = np.full((HEIGHT, WIDTH), 900)
    ids[5:35, 10:30] = 70001
    ids[10:20, 15:20] = 70002
    ids[0:10, 40:60] = 70003
    (root / 'annotations' / 'panoptic_val' / '7.png').write_bytes(encode_ids(ids))
    image = {'id': 7, 'file_name': '7.jpg', 'height': HEIGHT, 'width': WIDTH}
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    crowd[0:10, 40:60] = 1
    counts = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], crowd.ravel(order='F'), [2]])))).tolist()
    instances = [
        instance(11, PERSON, [10, 5, 20, 30]),
        instance(12, TIE, [15, 10, 5, 10]),
        instance(13, PERSON, [40, 0, 20, 10])
        | {'iscrowd': 1, 'segmentation': {'size': [HEIGHT, WIDTH], 'counts': counts}},
    ]
    segments = [segment(900, GRASS), segment(70001, PERSON), segment(70002, TIE), segment(70003, PERSON, 1)]
    things = [{'id': PERSON, 'name': 'person'}, {'id': TIE, 'name': 'tie'}]
    write(root, 'instances_val.json', {'images': [image], 'annotations': instances, 'categories': things})
    panoptic = {'image_id': 7, 'file_name': '7.png', 'segments_info': segments}
    everything = [thing | {'isthing': 1} for thing in things]
    everything.append({'id': GRASS, 'name': 'grass-merged', 'isthing': 0})
    write(root, 'panoptic_val.json', {'images': [image], 'annotations': [panoptic], 'categories': everything})
    return root


def instance(identity, category, box):
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {
        'id': identity, 'image_id': 7, 'category_id': category, 'bbox': box, 'iscrowd': 0, 'segmentation': polygon,
    }  # fmt: skip


def segment(identity, category, crowd=0):
    return {'id': identity, 'category_id': category, 'iscrowd': crowd}


def write(root, name, content):
    (root / 'annotations' / name).write_text(json.dumps(content))


def change(root, name, edit):
    path = root / 'annotations' / name
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def read(root):
    """The only record, without storing it, and what is wrong."""
    found = check(preparation(root, 'val'), workers=0)
    return found.images[0].record, found


def test_a_record_holds_both_annotations_and_who_covers_whom(source):
    record, found = read(source)
    assert not found.problems and found.too_small == 0
    names = [COCO.things[index].name for index in record.instances.category]
    assert names == ['person', 'tie', 'person']
    assert record.instances.crowd.tolist() == [False, False, True]
    np.testing.assert_array_equal(record.instances.box[0], [10, 5, 30, 35])
    assert record.instances.segment.tolist() == record.instances.box_segment.tolist() == [70001, 70002, 0]
    pairs = record.pairs
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.covered.tolist()) == ([0], [1], [0])
    assert (pairs.intersection.tolist(), pairs.first_pixels.tolist(), pairs.second_pixels.tolist()) == ([50], [0], [50])
    assert COCO.all[record.segments.category[0]].name == 'grass-merged'
    png = (source / 'annotations' / 'panoptic_val' / '7.png').read_bytes()
    np.testing.assert_array_equal(record.panoptic_ids(), decode_ids(png))


def test_one_kind_of_annotation_may_be_missing(source):
    (source / 'annotations' / 'panoptic_val.json').unlink()
    record, _ = read(source)
    assert record.has_instances and record.has_relations and not record.has_panoptic
    assert record.pairs.covered.tolist() == [-1]


def test_panoptic_annotation_alone(source):
    (source / 'annotations' / 'instances_val.json').unlink()
    record, _ = read(source)
    assert record.has_panoptic and not record.has_instances and not record.has_relations
    assert len(record.instances.id) == 0 and len(record.segments.id) == 4


def test_an_image_that_only_one_file_lists_has_only_its_annotation(source):
    change(source, 'instances_val.json', lambda c: c.update(images=[], annotations=[]))
    assert not read(source)[0].has_instances and read(source)[0].has_panoptic


def test_an_image_without_objects_is_annotated_as_empty(source):
    change(source, 'instances_val.json', lambda c: c.update(annotations=[]))
    record, _ = read(source)
    assert record.has_instances and record.has_relations and not len(record.instances.id)


def test_images_without_annotations_are_read_as_such(source):
    """As COCO has test-dev2017: `image_info_test-dev2017.json`, and the images in `test2017`."""
    content = json.loads((source / 'annotations' / 'instances_val.json').read_text())
    write(source, 'image_info_test-dev2017.json', {'images': content['images'], 'categories': content['categories']})
    (source / 'val').rename(source / 'test2017')
    folder = store(preparation(source, 'test-dev2017'), source / 'data', workers=0)
    stored = RecordSource(folder, 'test-dev2017')
    assert len(stored) == 1 and not stored[0].has_instances and not stored[0].has_panoptic
    assert stored[0].image().shape == (HEIGHT, WIDTH, 3) and stored[0].file_name == '7.jpg'


def test_preparing_stores_it_once(source, tmp_path):
    folder = store(preparation(source, 'val'), tmp_path / 'data', workers=0)
    assert store(preparation(source, 'val'), tmp_path / 'data') == folder
    stored, (expected, _) = RecordSource(folder, 'val'), read(source)
    assert stored.sizes.tolist() == [[HEIGHT, WIDTH]]
    assert stored[0].image_bytes == (source / 'val' / '7.jpg').read_bytes()
    assert stored[0].instances.rles == expected.instances.rles
    np.testing.assert_array_equal(stored[0].panoptic_ids(), expected.panoptic_ids())

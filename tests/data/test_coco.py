"""The COCO reader: what it takes from the official layout, and how it refuses what is broken."""

import json

import cv2
import numpy as np
import pytest

from sognet_jax.categories import COCO
from sognet_jax.data.coco import builder
from sognet_jax.data.coco.annotations import AnnotationError, make_record, read_split
from sognet_jax.data.schema import encode_ids
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
    write(root, 'instances_val.json', {'images': [image], 'annotations': instances})
    panoptic = {'image_id': 7, 'file_name': '7.png', 'segments_info': segments}
    write(root, 'panoptic_val.json', {'images': [image], 'annotations': [panoptic]})
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


def test_a_record_holds_both_annotations_and_who_covers_whom(source):
    record = make_record(read_split(source, 'val'), 0)
    names = [COCO.things[index].name for index in record.instances.category]
    assert names == ['person', 'tie', 'person']
    assert record.instances.crowd.tolist() == [False, False, True]
    np.testing.assert_array_equal(record.instances.box[0], [10, 5, 30, 35])
    assert record.instances.segment.tolist() == [70001, 70002, 0]
    pairs = record.pairs
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.covered.tolist()) == ([0], [1], [0])
    assert COCO.all[record.segments.category[0]].name == 'grass-merged'


def test_one_kind_of_annotation_may_be_missing(source):
    (source / 'annotations' / 'panoptic_val.json').unlink()
    record = make_record(read_split(source, 'val'), 0)
    assert record.has_instances and not record.has_panoptic
    assert record.pairs.covered.tolist() == [-1]


def test_panoptic_annotation_alone(source):
    (source / 'annotations' / 'instances_val.json').unlink()
    record = make_record(read_split(source, 'val'), 0)
    assert record.has_panoptic and not record.has_instances
    assert len(record.instances.id) == 0 and len(record.segments.id) == 4


def test_preparing_stores_it_once(source, tmp_path):
    folder = builder.prepare(source, tmp_path / 'data', 'val')
    assert builder.prepare(source, tmp_path / 'data', 'val') == folder
    stored, read = RecordSource(folder, 'val')[0], make_record(read_split(source, 'val'), 0)
    assert stored.image_bytes == read.image_bytes
    assert stored.instances.rles == read.instances.rles
    np.testing.assert_array_equal(stored.panoptic_ids(), read.panoptic_ids())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def rewrite_png(root, edit):
    path = root / 'annotations' / 'panoptic_val' / '7.png'
    ids = np.full((HEIGHT, WIDTH), 900)
    path.write_bytes(encode_ids(edit(ids)))


BROKEN = {
    'no such folder': (
        lambda root: (root / 'annotations').rename(root.parent / 'gone'),
        'neither .*instances_val.json'),
    'no JSON': (
        lambda root: (root / 'annotations' / 'instances_val.json').write_text('{"im'),
        'instances_val.json is not'),
    'a missing field': (
        lambda root: change(root, 'instances_val.json', lambda c: c.pop('annotations')), "no field 'annotations'"),
    'a doubled id': (
        lambda root: change(root, 'instances_val.json', lambda c: c['annotations'][1].update(id=11)),
        'id 11 appears twice'),
    'an unknown category': (
        lambda root: change(root, 'instances_val.json', lambda c: c['annotations'][1].update(category_id=12)),
        'image 7, annotation 12: category id 12'),
    'stuff as an instance': (
        lambda root: change(root, 'instances_val.json', lambda c: c['annotations'][1].update(category_id=GRASS)),
        'annotation 12: .*stuff'),
    'a broken mask': (
        lambda root: change(
            root, 'instances_val.json', lambda c: c['annotations'][0].update(segmentation={'counts': 3})),
        'annotation 11: segmentation'),
    'a mask of another size': (
        lambda root: change(
            root,
            'instances_val.json',
            lambda c: c['annotations'][0].update(segmentation={'size': [3, 4], 'counts': [0, 12]})),
        r'annotation 11: segmentation.*\[3, 4\]'),
    'an instance without a box': (
        lambda root: change(root, 'instances_val.json', lambda c: c['annotations'][0].pop('bbox')), "image 7 .*'bbox'"),
    'a missing image': (lambda root: (root / 'val' / '7.jpg').unlink(), '7.jpg: image 7 is missing'),
    'a truncated image': (lambda root: truncate(root / 'val' / '7.jpg'), '7.jpg: image 7 is truncated'),
    'an image of another size': (
        lambda root: cv2.imwrite(str(root / 'val' / '7.jpg'), np.zeros((4, 5, 3), np.uint8)), r'is \(4, 5\)'),
    'a missing PNG': (lambda root: (root / 'annotations' / 'panoptic_val' / '7.png').unlink(), '7.png.* is missing'),
    'a truncated PNG': (
        lambda root: (root / 'annotations' / 'panoptic_val' / '7.png').write_bytes(b'\x89PNG'), '7.png.* be decoded'),
    'a PNG of another size': (lambda root: rewrite_png(root, lambda ids: ids[:9]), r'7.png.* is \(9, 60\)'),
    'an id without a segment': (lambda root: rewrite_png(root, lambda ids: ids + 1), r'without a segment: \[901\]'),
    'a segment without a pixel': (lambda root: rewrite_png(root, lambda ids: ids), r'without a pixel.*70001'),
    'an unknown segment category': (
        lambda root: change(
            root, 'panoptic_val.json', lambda c: c['annotations'][0]['segments_info'][0].update(category_id=301)),
        'segment 900: category id 301'),
}  # fmt: skip


@pytest.mark.parametrize('name', BROKEN)
def test_broken_annotations_end_in_one_clear_error_and_store_nothing(source, tmp_path, name):
    breaks, message = BROKEN[name]
    breaks(source)
    with pytest.raises(AnnotationError, match=message):
        builder.prepare(source, tmp_path / 'data', 'val')
    assert not list((tmp_path / 'data').rglob('*array_record*'))

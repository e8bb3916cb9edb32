"""Examples against the records they are made of."""

import dataclasses

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import IGNORE, SHAPES
from sognet_jax.data.shapes.builder import ShapesSettings, draw
from sognet_jax.data.transforms import ExampleSettings, make_example, resize_factor

SETTINGS = ExampleSettings(
    image_size=(128, 160), short_side=128, long_side=160, max_instances=12, num_stuff=SHAPES.num_stuff
)


@pytest.fixture(scope='module')
def record():
    records = [draw(ShapesSettings(), 0, index) for index in range(20)]
    return max(records, key=lambda record: len(record.pairs.first))


@pytest.fixture(scope='module')
def example(record):
    return make_example(record, SETTINGS)


def test_everything_has_the_contract_s_shape_and_type(example):
    expected = {
        'image': ((128, 160, 3), np.uint8), 'image_size': ((2,), np.int32), 'scale': ((), np.float32),
        'image_id': ((), np.int32), 'original_size': ((2,), np.int32), 'boxes': ((12, 4), np.float32),
        'classes': ((12,), np.int32), 'valid': ((12,), np.bool_), 'crowd': ((12,), np.bool_),
        'masks': ((12, 112, 112), np.uint8), 'semantic': ((128, 160), np.uint8), 'panoptic': ((32, 40), np.int16),
        'overlap': ((12, 12), np.bool_), 'order': ((12, 12), np.bool_), 'decided': ((12, 12), np.bool_),
        'true_order': ((12, 12), np.bool_), 'has_instances': ((), np.bool_), 'has_panoptic': ((), np.bool_),
        'dropped': ((), np.int32),
    }  # fmt: skip
    assert {name: (value.shape, value.dtype.type) for name, value in example.items()} == expected


def test_labels_are_those_of_the_panoptic_annotation(record, example):
    ids = record.panoptic_ids()
    category = dict(zip(record.segments.id.tolist(), record.segments.category.tolist(), strict=True))
    slot = {segment: index for index, segment in enumerate(record.instances.segment.tolist())}
    semantic = np.vectorize(category.get)(ids)
    panoptic = np.vectorize(lambda i: SHAPES.num_stuff + slot[i] if i in slot else category[i])(ids)
    np.testing.assert_array_equal(example['semantic'][:, :128], semantic)
    np.testing.assert_array_equal(example['panoptic'][:, :32], panoptic[::4, ::4])
    assert np.all(example['semantic'][:, 128:] == IGNORE) and np.all(example['panoptic'][:, 32:] == -1)
    assert np.all(example['image'][:, 128:] == 0)


def test_a_mask_put_back_into_its_box_is_the_annotation(record, example):
    for index, rle in enumerate(record.instances.rles):
        x1, y1, x2, y2 = example['boxes'][index].astype(int)
        small = cv2.resize(example['masks'][index] * 255, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA) > 127
        annotated = coco_mask.decode(rle)[y1:y2, x1:x2].astype(bool)
        assert (small & annotated).sum() >= 0.93 * (small | annotated).sum()


def test_mirroring_mirrors_everything(record, example):
    flipped = make_example(record, SETTINGS, flip=True)
    for name in ('image', 'semantic'):
        np.testing.assert_array_equal(flipped[name][:, :128], example[name][:, :128][:, ::-1])
    np.testing.assert_array_equal(flipped['masks'], example['masks'][:, :, ::-1])
    mirrored = 128 - flipped['boxes'][:, [2, 0]]
    np.testing.assert_allclose(mirrored[example['valid']], example['boxes'][example['valid']][:, [0, 2]])
    for name in ('classes', 'overlap', 'order', 'true_order', 'decided'):
        np.testing.assert_array_equal(flipped[name], example[name])


def test_relations_are_consistent(example):
    overlap, order, true_order = example['overlap'], example['order'], example['true_order']
    assert overlap.any() and np.array_equal(overlap, overlap.T) and not overlap.diagonal().any()
    assert not np.any(order & order.T) and not np.any(order & ~overlap)
    np.testing.assert_array_equal(true_order | true_order.T, overlap)
    empty = ~example['valid']
    assert not overlap[empty].any() and not overlap[:, empty].any()


def test_resizing_scales_image_boxes_and_labels_together(record):
    settings = dataclasses.replace(SETTINGS, image_size=(64, 96), short_side=64)
    small = make_example(record, settings)
    assert small['scale'] == 0.5 and small['image_size'].tolist() == [64, 64]
    np.testing.assert_allclose(small['boxes'], make_example(record, SETTINGS)['boxes'] / 2)
    expected = cv2.resize(record.image(), (64, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(small['image'][:, :64], expected)


@pytest.mark.parametrize(
    ('size', 'image_size', 'expected'),
    [
        ((480, 640), (800, 1344), 800 / 480),
        ((400, 1000), (800, 1344), 1333 / 1000),
        ((640, 480), (800, 1344), 800 / 640),  # it would be 1067 high: the bucket bounds it
        ((800, 1333), (800, 1344), 1.0),
    ],
)
def test_the_shorter_side_decides_unless_the_longer_would_be_too_long(size, image_size, expected):
    settings = ExampleSettings(image_size, 800, 1333, 100, 53)
    assert resize_factor(size, settings) == pytest.approx(expected)


def test_the_smallest_instances_are_dropped_and_counted(record):
    count = len(record.instances.id)
    few = make_example(record, dataclasses.replace(SETTINGS, max_instances=count - 2))
    areas = coco_mask.area(record.instances.rles).astype(int)
    kept = np.sort(np.argsort(-areas, kind='stable')[: count - 2])
    assert few['dropped'] == 2
    np.testing.assert_array_equal(few['classes'], record.instances.category[kept])
    gone = np.isin(record.instances.segment, record.instances.segment[kept], invert=True)
    hidden = np.isin(record.panoptic_ids(), record.instances.segment[gone])
    assert np.all(few['panoptic'][:, :32][hidden[::4, ::4]] == -1)


def test_without_annotations_nothing_is_known(record):
    bare = dataclasses.replace(record, has_panoptic=False)
    example = make_example(bare, SETTINGS)
    assert np.all(example['semantic'] == IGNORE) and np.all(example['panoptic'] == -1)
    assert not example['decided'].any() and not example['has_panoptic']

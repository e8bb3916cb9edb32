"""Examples against the records they are made of."""

import dataclasses
import types

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.contract import SEMANTIC_IGNORE
from sognet_jax.data.examples.transforms import (
    ExampleSettings,
    make_example,
    published_frames,
    resize_factor,
    resize_image,
)
from sognet_jax.data.records.png import encode_image, encode_indices
from sognet_jax.data.records.schema import Segments
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from tests.support import golden_files

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


def test_labels_are_those_of_the_panoptic_annotation(record, example):
    ids = record.panoptic_ids()
    category = dict(zip(record.segments.id.tolist(), record.segments.category.tolist(), strict=True))
    slot = {segment: index for index, segment in enumerate(record.instances.segment.tolist())}
    semantic = np.vectorize(category.get)(ids)
    panoptic = np.vectorize(lambda i: SHAPES.num_stuff + slot[i] if i in slot else category[i])(ids)
    np.testing.assert_array_equal(example['semantic'][:, :128], semantic)
    np.testing.assert_array_equal(example['panoptic'][:, :32], panoptic[::4, ::4])
    assert np.all(example['semantic'][:, 128:] == SEMANTIC_IGNORE) and np.all(example['panoptic'][:, 32:] == -1)
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
    halves = record.image().reshape(64, 2, 64, 2, 3).mean((1, 3))
    np.testing.assert_array_equal(small['image'][:, :64], np.rint(halves))


def test_a_short_side_of_its_own_takes_the_place_of_the_settings_one(record):
    changed = make_example(record, dataclasses.replace(SETTINGS, short_side=72), flip=True)
    own = make_example(record, SETTINGS, flip=True, short_side=72)
    assert own['image_size'].tolist() == [72, 72]
    for name, value in changed.items():
        np.testing.assert_array_equal(own[name], value)


@pytest.mark.parametrize('short_side', [77, 94, 111])
@pytest.mark.parametrize('depth', [8, 16])
def test_labels_at_a_quarter_are_those_of_every_fourth_pixel(record, short_side, depth):
    """Also where the size is no multiple of 4, and where so many segments are stored that 8 bits do not suffice."""
    indices = record.segment_indices()[:, :113]
    segments = record.segments
    if depth == 16:  # the same segments, behind 300 that no pixel has
        indices = np.where(indices, indices.astype(np.uint16) + 300, np.uint16(0))
        behind = (300, 0)
        segments = Segments(
            np.pad(segments.id, behind, constant_values=9_999),
            np.pad(segments.category, behind),
            np.pad(segments.crowd, behind),
        )
    stored = dataclasses.replace(
        record,
        image_bytes=encode_image(record.image()[:, :113]),
        size=(record.size[0], 113),
        panoptic_bytes=encode_indices(indices),
        segments=segments,
    )
    example = make_example(stored, SETTINGS, short_side=short_side)
    height, width = example['image_size']
    scale = short_side / 113
    rows = (np.arange(height) / scale).astype(int)
    columns = (np.arange(width) / scale).astype(int)
    ids = record.panoptic_ids()[:, :113][rows][:, columns]
    category = dict(zip(record.segments.id.tolist(), record.segments.category.tolist(), strict=True))
    slot = {segment: index for index, segment in enumerate(record.instances.segment.tolist())}
    np.testing.assert_array_equal(example['semantic'][:height, :width], np.vectorize(category.get)(ids))
    panoptic = np.full((32, 40), -1)
    valid = np.s_[: round(int(height) / 4), : round(int(width) / 4)]
    target = np.vectorize(lambda i: SHAPES.num_stuff + slot[i] if i in slot else category[i])(ids)
    panoptic[valid] = target[::4, ::4][valid]
    np.testing.assert_array_equal(example['panoptic'], panoptic)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('short_side', [64, 100, 300])
def test_published_boxes_are_the_scaled_inclusive_corners(record, short_side, flip):
    x1, y1, x2, y2 = record.instances.box.T
    x2, y2 = np.maximum(x2 - 1, x1), np.maximum(y2 - 1, y1)
    if flip:
        x1, x2 = 128 - x2 - 1, 128 - x1 - 1
    settings = dataclasses.replace(
        SETTINGS, image_size=(320, 320), short_side=short_side, long_side=320, inclusive_boxes=True
    )
    example = make_example(record, settings, flip=flip)
    expected = np.stack([x1, y1, x2, y2], axis=-1) * (short_side / 128) + [0, 0, 1, 1]
    np.testing.assert_allclose(example['boxes'][example['valid']], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('flip', [False, True])
def test_a_mask_in_a_published_box_lies_where_the_resized_annotation_does(record, flip):
    settings = dataclasses.replace(SETTINGS, image_size=(512, 512), short_side=512, long_side=512, inclusive_boxes=True)
    example = make_example(record, settings, flip=flip)
    for index, rle in enumerate(record.instances.rles):
        annotated = coco_mask.decode(rle).repeat(4, 0).repeat(4, 1)
        annotated = annotated[:, ::-1] if flip else annotated
        x1, y1, x2, y2 = np.rint(example['boxes'][index]).astype(int)
        pasted = cv2.resize(example['masks'][index] * 255, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR) > 127
        # Masks are cut at one half between annotated pixels: edges may move by half a pixel of the original, two here.
        core = cv2.erode(annotated, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE)
        around = cv2.dilate(annotated, np.ones((5, 5), np.uint8))
        assert np.all(pasted >= core[y1:y2, x1:x2]) and np.all(pasted <= around[y1:y2, x1:x2])


def test_a_box_under_a_pixel_has_equal_published_corners():
    boxes = np.array([[3, 4, 3.25, 4.5]], np.float32)
    np.testing.assert_allclose(published_frames(boxes, 4.0, flip=False) * 4, [[12, 16, 13, 17]])
    np.testing.assert_allclose(published_frames(boxes, 4.0, flip=True) * 4, [[15, 16, 16, 17]])


@pytest.mark.parametrize('short_side', [100, 90, 70, 77])
def test_mirroring_commutes_with_resizing(record, short_side):
    """Whatever the rounding of the resized size is, the mirrored image makes the mirrored example."""
    settings = dataclasses.replace(SETTINGS, short_side=short_side)
    size = (record.size[0], 113)
    narrow = dataclasses.replace(
        record, image_bytes=encode_image(record.image()[:, :113]), size=size, has_panoptic=False
    )
    mirrored = dataclasses.replace(narrow, image_bytes=encode_image(record.image()[:, :113][:, ::-1]))
    flipped, expected = make_example(narrow, settings, flip=True), make_example(mirrored, settings)
    np.testing.assert_array_equal(flipped['image'], expected['image'])
    x1, x2 = narrow.instances.box[:, 0], narrow.instances.box[:, 2]
    boxes = np.stack([113 - x2, 113 - x1], axis=-1) * flipped['scale']
    np.testing.assert_allclose(flipped['boxes'][flipped['valid']][:, [0, 2]], boxes, rtol=1e-5)


@golden_files.parametrize('preprocess')
def test_images_are_resized_as_published(golden_path):
    golden = golden_files.load(golden_path)
    image, means, expected = golden['image_bgr'], golden['pixel_means'], golden['output_hwc']
    bucket = golden['collated'].shape[2:]
    settings = dataclasses.replace(
        SETTINGS, image_size=bucket, short_side=int(golden['target']), long_side=int(golden['max_size'])
    )
    scale = resize_factor(image.shape[:2], settings)
    assert np.float32(scale) == golden['scale']
    assert resize_image(image, scale).shape == expected.shape
    np.testing.assert_allclose(resize_image(image - means, scale), expected, atol=1e-4)
    bare = dataclasses.replace(
        draw(ShapesSettings(), 0, 0),
        image_bytes=encode_image(image[:, :, ::-1]),
        size=image.shape[:2],
        has_panoptic=False,
    )
    example = make_example(bare, settings)
    height, width = example['image_size']
    assert (height, width) == expected.shape[:2] and example['image'].shape[:2] == bucket
    np.testing.assert_allclose(example['image'][:height, :width, ::-1] - means, expected, atol=0.501)
    assert not example['image'][height:].any() and not example['image'][:, width:].any()
    collated = np.moveaxis(golden['collated'][0], 0, -1)
    assert not collated[height:].any() and not collated[:, width:].any()


@pytest.mark.parametrize(
    ('size', 'image_size', 'expected'),
    [
        ((480, 640), (800, 1344), 800 / 480),
        ((400, 1000), (800, 1344), 1333 / 1000),
        ((640, 480), (800, 1344), 800 / 640),  # it would be 1067 high: the bucket bounds it
        ((800, 1333), (800, 1344), 1.0),
        ((471, 785), (800, 1333), 800 / 471),  # 1333.3 wide, rounded to 1333: nothing to bound
        ((601, 1002), (800, 1333), 1333 / 1002),
    ],
)
def test_the_shorter_side_decides_unless_the_longer_would_be_too_long(size, image_size, expected):
    # Real buckets are multiples of 32; these let the longer side's limit and the bucket's coincide.
    settings = types.SimpleNamespace(image_size=image_size, short_side=800, long_side=1333)
    assert resize_factor(size, settings) == pytest.approx(expected)


def test_a_bucket_of_another_size_is_refused():
    with pytest.raises(ValueError, match='data.image_size'):
        dataclasses.replace(SETTINGS, image_size=(100, 128))


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
    # Where there is no panoptic map, preparation finds overlaps and no order, unless the data state one.
    pairs = dataclasses.replace(record.pairs, covered=np.full_like(record.pairs.covered, -1))
    bare = dataclasses.replace(record, has_panoptic=False, pairs=pairs)
    example = make_example(bare, SETTINGS)
    assert np.all(example['semantic'] == SEMANTIC_IGNORE) and np.all(example['panoptic'] == -1)
    assert not example['decided'].any() and not example['has_panoptic']

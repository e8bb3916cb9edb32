"""Examples against what the published loader makes of the same annotation (golden files `model_train_*`)."""

import dataclasses

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import COCO
from sognet_jax.contract import SEMANTIC_IGNORE
from sognet_jax.data.examples.transforms import ExampleSettings, make_example, resize_factor, resize_image
from sognet_jax.data.records.png import encode_image, encode_indices, index_ids
from sognet_jax.data.records.relations import (
    NO_ROW,
    OVERLAP_RATIO,
    decide_pairs,
    find_pairs,
    map_rles,
    match_segments,
    match_segments_by_box,
    rle_boxes,
)
from sognet_jax.data.records.schema import InstanceAnnotations, Pairs, Record, Segments
from tests.support import golden_files

MEANS = np.array([102.9801, 115.9465, 122.7717], np.float32)
"""Subtracted from BGR in the published input."""

FIRST_INSTANCE = 1000
"""Segment ids of the record: this plus the instance's index; every other pixel has its train id + 1."""

STORED = sorted(golden_files.folder().glob('model_train_*_annotation.npz'))


@dataclasses.dataclass(frozen=True)
class Case:
    """One annotation, what the published loader makes of it, and what this project does."""

    annotation: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    scale: float
    example: dict[str, np.ndarray]


@pytest.fixture(scope='module', params=STORED or [None], ids=lambda path: path.stem if path else 'none')
def case(request):
    if request.param is None:
        pytest.skip(f'no model_train_*_annotation.npz in {golden_files.folder()} (set SOGNET_GOLDEN)')
    inputs_path = request.param.with_name(request.param.name.replace('_annotation', '_inputs'))
    if not inputs_path.is_file():
        pytest.skip(f'no {inputs_path}')
    annotation, inputs = golden_files.load(request.param), golden_files.load(inputs_path)
    settings = ExampleSettings(
        image_size=inputs['data'].shape[2:],
        short_side=int(annotation['target_size']),
        long_side=int(annotation['max_size']),
        max_instances=len(annotation['boxes']) + 2,
        num_stuff=COCO.num_stuff,
        inclusive_boxes=True,
        match_by_box=True,
    )
    scale = resize_factor(annotation['semantic'].shape, settings)
    return Case(annotation, inputs, scale, make_example(record_of(annotation), settings))


def record_of(annotation):
    """The stored annotation as a record whose instances have the segments that the published rule finds."""
    rles = polygon_rles(annotation)
    semantic, categories = annotation['semantic'], annotation['classes'] - 1
    ids = np.where(semantic == SEMANTIC_IGNORE, 0, semantic.astype(np.int64) + 1)
    for index, mask in enumerate(annotation['panoptic_masks']):
        ids[mask] = FIRST_INSTANCE + index
    present = np.unique(ids[ids > 0])
    things = np.flatnonzero(present >= FIRST_INSTANCE)
    train_ids = present - 1
    train_ids[things] = COCO.num_stuff + categories[present[things] - FIRST_INSTANCE]
    indices = index_ids(ids, present)
    segment_rles = map_rles(indices, len(present))
    thing_rles = [segment_rles[row] for row in things]
    boxes = annotation['boxes'] + golden_files.SHIFT
    by_mask = match_segments(rles, COCO.num_stuff + categories, thing_rles, train_ids[things])
    by_box = match_segments_by_box(boxes, rle_boxes(thing_rles))
    pairs, intersections = find_pairs(rles, np.zeros(len(rles), bool))
    rows = np.where(by_mask == NO_ROW, NO_ROW, things[by_mask])
    covered, pixels = decide_pairs(rles, pairs, segment_rles, rows)
    return Record(
        image_bytes=encode_image(annotation['image_bgr'][:, :, ::-1]),
        image_id=1,
        file_name='1.png',
        size=semantic.shape,
        panoptic_bytes=encode_indices(indices),
        has_instances=True,
        has_panoptic=True,
        has_relations=True,
        segments=Segments(present, train_ids.astype(np.int32), np.zeros(len(present), bool)),
        instances=InstanceAnnotations(
            id=1 + np.arange(len(rles)),
            category=categories.astype(np.int32),
            crowd=np.zeros(len(rles), bool),
            box=boxes,
            rles=rles,
            segment=np.where(by_mask == NO_ROW, 0, present[things][by_mask]),
            box_segment=np.where(by_box == NO_ROW, 0, present[things][by_box]),
        ),
        pairs=Pairs(
            pairs[:, 0], pairs[:, 1], covered, np.full(len(pairs), -1, np.int8), intersections, pixels[:, 0],
            pixels[:, 1],
        ),
    )  # fmt: skip


def polygon_rles(annotation):
    size = annotation['semantic'].shape
    polygons = [[polygon.astype(float).tolist()] for polygon in annotation['polygons']]
    return [coco_mask.merge(coco_mask.frPyObjects(polygon, *size)) for polygon in polygons]


def valid_part(case):
    """Rows and columns of the image without its padding, at full and at a quarter of the size."""
    height, width = (int(side) for side in case.inputs['im_info'][0, :2])
    return np.s_[:height, :width], np.s_[: round(height / 4), : round(width / 4)]


def overlap_ratios(common, own):
    """Eq. (11): intersection of `common` over the smaller of `own`, `[n, h, w]` each -> `[n, n]`; 0 / 0 is 0."""
    common, areas = common.reshape(len(common), -1).astype(np.float64), own.sum((1, 2))
    smaller = np.minimum(areas[:, None], areas[None])
    return common @ common.T / np.maximum(smaller, 1) * (1 - np.eye(len(common)))


def test_size_and_scale_are_the_published_ones(case):
    height, width, scale = case.inputs['im_info'][0]
    assert case.example['image_size'].tolist() == [height, width]
    assert case.example['scale'] == scale


def test_image_is_the_published_one(case):
    full, _ = valid_part(case)
    data = np.moveaxis(case.inputs['data'][0], 0, -1)
    exact = resize_image(case.annotation['image_bgr'] - MEANS, case.scale)
    np.testing.assert_allclose(exact, data[full], atol=1e-4)
    np.testing.assert_allclose(case.example['image'][full][..., ::-1] - MEANS, data[full], atol=0.501)
    padding = np.ones(data.shape[:2], bool)
    padding[full] = False
    assert not case.example['image'][padding].any() and not data[padding].any()


def test_semantic_labels_are_the_published_ones(case):
    _, quarter = valid_part(case)
    np.testing.assert_array_equal(case.example['semantic'], case.inputs['seg_gt'][0])
    small = np.full_like(case.inputs['seg_gt_4x'][0], SEMANTIC_IGNORE)
    small[quarter] = case.example['semantic'][::4, ::4][quarter]
    np.testing.assert_array_equal(small, case.inputs['seg_gt_4x'][0])


def test_panoptic_target_is_the_published_one(case):
    """Stuff from the semantic labels; things from the matched masks, others ignored."""
    labels = case.inputs['seg_gt_4x'][0].astype(int)
    expected = np.where(labels < COCO.num_stuff, labels, -1)
    for index, mask in enumerate(case.inputs['matched_mask']):
        expected[mask == 1] = COCO.num_stuff + index
    np.testing.assert_array_equal(case.example['panoptic'], expected)


def test_boxes_and_classes_are_the_published_ones(case):
    valid, scale = case.example['valid'], case.inputs['im_info'][0, 2]
    expected = case.annotation['boxes'] * scale + golden_files.SHIFT
    np.testing.assert_allclose(case.example['boxes'][valid], expected, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(case.example['classes'][valid] + 1, case.inputs['gt_classes'])
    assert case.example['valid'].sum() == len(expected) and case.example['dropped'] == 0


def test_polygons_are_rasterised_as_published(case):
    masks = coco_mask.decode(polygon_rles(case.annotation))
    np.testing.assert_array_equal(np.moveaxis(masks, -1, 0), case.annotation['masks_from_polygons'])


def outline_bounds(case):
    """COCO's masks at the published 1/4 scale, less and more the pixels on their edge: `[n, h, w]` bool each."""
    _, quarter = valid_part(case)
    kernel = np.ones((3, 3), np.uint8)

    def bound(change):
        masks = [change(mask.astype(np.uint8), kernel) for mask in case.annotation['masks_from_polygons']]
        return np.stack([resize_labels(mask, case.scale)[::4, ::4][quarter] for mask in masks]) > 0

    return bound(cv2.erode), bound(cv2.dilate)


def resize_labels(labels, scale):
    return cv2.resize(labels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)


def test_masks_differ_from_the_published_ones_on_their_edge_only(case):
    """The published loader fills polygons with PIL, outline included, at 1/4 scale; here they are COCO's, in their box.

    So neither is held to the other, but both to lie between the COCO mask without and with the pixels on its edge.
    """
    _, quarter = valid_part(case)
    least, most = outline_bounds(case)
    for index, mask in enumerate(case.inputs['mask_gt']):
        for pixels in (mask[quarter] == 1, paste(case.example, index)[::4, ::4][quarter] == 1):
            assert np.all(pixels >= least[index]) and np.all(pixels <= most[index])


def paste(example, index):
    """An example's mask in the image, `[H, W]` in {0, 1}: every pixel's centre looked up in the box."""
    x1, y1, x2, y2 = example['boxes'][index]
    mask = example['masks'][index]
    side = len(mask)
    rows = np.floor((np.arange(example['semantic'].shape[0]) + 0.5 - y1) / (y2 - y1) * side).astype(int)
    columns = np.floor((np.arange(example['semantic'].shape[1]) + 0.5 - x1) / (x2 - x1) * side).astype(int)
    inside = np.outer((rows >= 0) & (rows < side), (columns >= 0) & (columns < side))
    return np.where(inside, mask[np.clip(rows, 0, side - 1)][:, np.clip(columns, 0, side - 1)], 0)


def test_overlap_relation_is_the_published_one(case):
    """R here is of COCO's masks at their own resolution, the published one of `mask_gt`.

    They are equal for every pair that the pixels on the edge of the masks cannot bring to the other side of 0.1.
    """
    count = len(case.annotation['boxes'])
    actual = case.example['overlap'][:count, :count]
    published = overlap_ratios(case.inputs['mask_gt'] == 1, case.inputs['mask_gt'] == 1) >= OVERLAP_RATIO
    least, most = outline_bounds(case)
    clear = (overlap_ratios(least, most) >= OVERLAP_RATIO) | (overlap_ratios(most, least) < OVERLAP_RATIO)
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(actual[clear], published[clear])


def test_the_order_is_that_of_the_annotation_s_depth(case):
    """R* from the panoptic masks: the instance that lies further back is covered."""
    if 'depth_order_front_to_back' not in case.annotation:
        pytest.skip('the annotation has no depth order')
    depth = np.argsort(case.annotation['depth_order_front_to_back'])
    covered, by = np.nonzero(case.example['order'])
    assert np.all(depth[covered] > depth[by])

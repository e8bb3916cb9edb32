"""Masks in their boxes against pycocotools' whole masks, sampled point by point."""

import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.contract import MASK_SIDE
from sognet_jax.data.examples.transforms import mask_in_box, masks_in_boxes

SIZE = (61, 83)


@pytest.fixture(scope='module')
def masks():
    """`[n, h, w]`: long and short runs, so that numbers have several digits and either sign; empty and full ones."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    noise = [rng.random(SIZE) < share for share in (0.01, 0.5, 0.99)]
    discs = [(rows - y) ** 2 + (columns - x) ** 2 < r**2 for y, x, r in rng.uniform(5, 50, (8, 3))]
    corner = (rows == 0) & (columns == 0)
    return np.array([*noise, *discs, corner, ~corner, np.zeros(SIZE, bool), np.ones(SIZE, bool)]).astype(np.uint8)


def encode(masks):
    return [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]


def sample(mask, box):
    """Bilinear interpolation at the centres of the box's cells, one after the other; the edge goes on outside."""
    values = np.zeros((MASK_SIDE, MASK_SIDE))
    (height, width), pixels = mask.shape, mask.tolist()
    for row in range(MASK_SIDE):
        for column in range(MASK_SIDE):
            x = box[0] + (column + 0.5) * (box[2] - box[0]) / MASK_SIDE - 0.5
            y = box[1] + (row + 0.5) * (box[3] - box[1]) / MASK_SIDE - 0.5
            left, top = math.floor(x), math.floor(y)
            for yy, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
                for xx, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
                    nearest = pixels[min(max(yy, 0), height - 1)][min(max(xx, 0), width - 1)]
                    values[row, column] += weight_y * weight_x * nearest
    return values


@pytest.mark.parametrize(
    'box',
    [
        (10.25, 7.5, 41.75, 50.0),
        (0, 0, 83, 61),
        (30, 20, 31, 21),
        (-0.6, -0.4, 20.3, 30.1),
        (60.5, 40.2, 83.9, 61.7),
    ],
)
def test_a_mask_is_sampled_in_its_box(masks, box):
    boxes = np.tile(np.array(box, np.float32), (len(masks), 1))
    found = masks_in_boxes(encode(masks), boxes)
    assert found.dtype == np.uint8 and found.shape == (len(masks), MASK_SIDE, MASK_SIDE)
    for index in (1, 4, 11, 12, 14):
        expected = sample(masks[index], box)
        # OpenCV knows places between pixels to 1/32: how far the value may be off on a slope of 1 along both axes.
        clear = np.abs(expected - 0.5) > 2 / 32
        assert clear.mean() > 0.8
        np.testing.assert_array_equal(found[index][clear], (expected > 0.5)[clear])


def test_each_mask_has_its_own_box(masks):
    rles = encode(masks[3:6])
    boxes = np.array([[3, 4, 50, 40], [20, 1, 70, 60], [5.5, 5.5, 9, 60]], np.float32)
    together = masks_in_boxes(rles, boxes)
    for row in range(3):
        np.testing.assert_array_equal(together[row], masks_in_boxes(rles[row : row + 1], boxes[row : row + 1])[0])


def test_the_columns_of_a_box_are_enough(masks):
    """The whole mask, of which only some columns are decoded, looks the same through the box."""
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 60, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.2, 6, (60, 2))], axis=1).astype(np.float32)
    noise = np.repeat(masks[1:2], len(boxes), 0)
    whole = np.array([mask_in_box(mask, box) for mask, box in zip(noise, boxes, strict=True)])
    differ = masks_in_boxes(encode(noise), boxes) != whole
    assert differ.mean() < 1e-4  # ties that rounding decides


def test_an_image_without_instances_has_no_masks():
    assert masks_in_boxes([], np.zeros((0, 4), np.float32)).shape == (0, MASK_SIDE, MASK_SIDE)

"""Pasting for AP, against the published code and against a loop over pixels."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.data.examples.transforms import published_frames
from sognet_jax.inference.pasting import encode_masks, expand_boxes, original_boxes, paste_probabilities
from tests.support import golden_files
from tests.support.golden_files import SHIFT


@golden_files.parametrize('mask_paste')
def test_masks_match_published(golden_path):
    golden = golden_files.load(golden_path)
    boxes = golden['boxes'].astype(np.float64) + SHIFT
    masks = paste_probabilities(golden['mask_prob'], boxes, tuple(golden['im_hw'].tolist()))
    assert masks.dtype == bool
    np.testing.assert_array_equal(masks, golden['masks'] > 0)


@golden_files.parametrize('bbox')
def test_expanded_boxes_match_published(golden_path):
    golden = golden_files.load(golden_path)
    expanded = expand_boxes(golden['boxes'], 30 / 28)
    np.testing.assert_array_equal(expanded.astype(int), golden['expand_30_28'].astype(int))
    golden_files.close(expanded, golden['expand_30_28'], 1e-6)


def paste_by_pixels(probabilities, box, size):
    """Each pixel of the image looks up its place in the bordered mask; probabilities, not yet compared with 0.5."""
    x1, y1, x2, y2 = np.asarray(box, np.float64) - SHIFT
    factor = (len(probabilities) + 2) / len(probabilities)
    left = int((x1 + x2) / 2 - (x2 - x1) / 2 * factor)
    right = int((x1 + x2) / 2 + (x2 - x1) / 2 * factor)
    top = int((y1 + y2) / 2 - (y2 - y1) / 2 * factor)
    bottom = int((y1 + y2) / 2 + (y2 - y1) / 2 * factor)
    width, height = max(right - left + 1, 1), max(bottom - top + 1, 1)
    bordered = np.pad(probabilities, 1)
    resized = cv2.resize(bordered, (width, height), interpolation=cv2.INTER_LINEAR)
    result = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            if 0 <= y - top < height and 0 <= x - left < width:
                result[y, x] = resized[y - top, x - left]
    return result


def test_boxes_over_every_edge_of_the_image():
    rng = np.random.default_rng(0)
    size = (23, 31)
    boxes = np.array(
        [
            [5, 4, 20, 17], [-9, -6, 12, 9], [20, 15, 45, 40], [-20, -20, 60, 60], [3, 3, 4, 4], [0, 0, 0, 0],
            [40, 2, 60, 9], [2, 40, 9, 60], [-60, 2, -40, 9], [2, -60, 9, -40], [0.4, 22.7, 30.9, 23],
        ],
        np.float32,
    )  # fmt: skip
    probabilities = rng.uniform(0, 1, (len(boxes), 14, 14)).astype(np.float32)
    masks = paste_probabilities(probabilities, boxes, size)
    for mask, probability, box in zip(masks, probabilities, boxes, strict=True):
        np.testing.assert_array_equal(mask, paste_by_pixels(probability, box, size) > 0.5)
    assert masks[:5].any(axis=(1, 2)).all() and not masks[5:10].any()


def test_run_lengths_give_the_masks_back():
    masks = paste_probabilities(
        np.ones((3, 28, 28)), np.array([[2, 3, 9, 8], [0, 0, 5, 5], [50, 50, 60, 60]]), (10, 12)
    )
    rles = encode_masks(masks)
    np.testing.assert_array_equal(np.moveaxis(coco_mask.decode(rles), -1, 0), masks)
    np.testing.assert_array_equal(np.moveaxis(coco_mask.decode(encode_masks(masks.copy())), -1, 0), masks)
    empty = paste_probabilities(np.zeros((0, 28, 28)), np.zeros((0, 4)), (10, 12))
    assert empty.shape == (0, 10, 12) and encode_masks(empty) == []


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r'\(2, 28, 28\), \(3, 4\)'):
        paste_probabilities(np.zeros((2, 28, 28)), np.zeros((3, 4)), (10, 12))


@pytest.mark.parametrize('inclusive', [False, True])
def test_boxes_come_back_as_they_went(inclusive):
    """Ground truth boxes are scaled as geometry is, or, published, by their inclusive corners."""
    boxes = np.array([[3, 4, 30, 50], [0, 0, 1, 9]], np.float32)
    for scale in (0.6, 1.0, 1.67):
        scaled = (published_frames(boxes, scale, False) if inclusive else boxes) * np.float32(scale)
        np.testing.assert_allclose(original_boxes(scaled, scale, inclusive=inclusive), boxes, atol=1e-4)

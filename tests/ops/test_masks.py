"""Masks between box and image: against OpenCV, and against the published pasting."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sognet_jax.ops.masks import crop_resize_masks, paste_masks, semantic_crop
from tests.support import golden_files
from tests.support.golden_files import SHIFT


@golden_files.parametrize('panoptic_train_')
def test_pasting_and_semantic_crop_are_the_published_ones(golden_path):
    golden = golden_files.load(golden_path)
    boxes = golden['gt_rois'][:, 1:] + SHIFT
    size = golden['mask_gt'].shape[1:]
    pasted, inside = paste_masks(golden['mask_score'][:, 0], boxes, size, 4)
    np.testing.assert_allclose(pasted, golden['mask_term'][0], atol=1e-4)
    assert not np.any(np.asarray(pasted)[~np.asarray(inside)])
    num_stuff = golden['fcn_score'].shape[1] - 80
    own_class = golden['fcn_score'][0, num_stuff + golden['cls_idx'] - 1]
    np.testing.assert_array_equal(np.where(semantic_crop(boxes, size, 4), own_class, 0), golden['seg_inst'][0])


@pytest.mark.parametrize('box', [(3, 4, 30, 25), (-8, -5, 12, 50), (20.7, 10.2, 21.4, 40.9), (5, 5, 5, 5)])
def test_a_pasted_mask_is_what_opencv_pastes(box):
    logits = np.random.default_rng(0).normal(size=(28, 28)).astype(np.float32)
    height, width = 40, 36
    x1, y1, x2, y2 = (np.array(box) - SHIFT).astype(int)
    w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    canvas = np.zeros((height + 200, width + 200), np.float32)
    canvas[y1 + 100 : y1 + 100 + h, x1 + 100 : x1 + 100 + w] = cv2.resize(logits, (int(w), int(h)))
    pasted, inside = paste_masks(logits[None], np.array([box], np.float32), (height, width))
    np.testing.assert_allclose(pasted[0], canvas[100:-100, 100:-100], atol=1e-4)
    assert inside[0].sum() == np.count_nonzero(canvas[100:-100, 100:-100])


def test_a_mask_seen_through_its_own_box_is_itself_and_through_another_moves():
    mask = np.random.default_rng(0).uniform(size=(1, 16, 16)).astype(np.float32)
    box = np.array([[10.0, 20.0, 42.0, 52.0]])
    np.testing.assert_allclose(crop_resize_masks(mask, box, box, 16), mask, atol=1e-5)
    two_columns_one_row = np.array([4.0, 2.0, 4.0, 2.0])
    shifted = crop_resize_masks(mask, box, box + two_columns_one_row, 16)
    np.testing.assert_allclose(shifted[0, :-1, :-2], mask[0, 1:, 2:], atol=1e-5)
    assert not np.any(shifted[0, -1]) and not np.any(shifted[0, :, -2:])


def test_gradients_of_pasting_are_numerical_gradients():
    logits = jax.random.normal(jax.random.key(0), (2, 6, 6))
    boxes = jnp.array([[1.0, 2.0, 9.0, 11.0], [-3.0, 0.0, 6.0, 5.0]])
    # Pasting is linear in the logits, so that float32 differences are good to a few digits.
    check_grads(lambda x: paste_masks(x, boxes, (12, 10))[0], (logits,), order=1, modes=['rev'], atol=1e-2, rtol=1e-2)


def test_rows_and_columns_of_the_crop_round_half_to_even():
    box = np.array([[4.0, 8.0, 11.0, 15.0]], np.float32)  # inclusive: x 4..10, y 8..14; / 4: 1..2.5, 2..3.5
    rows, columns = np.nonzero(semantic_crop(box, (10, 10), 4)[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 4, 1, 2)

"""Boxes and anchors against the published code's numbers, whose boxes have inclusive corners."""

import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.ops import boxes
from sognet_jax.ops.anchors import anchor_grid
from tests.support import golden_files
from tests.support.golden_files import SHIFT


def half_open(inclusive):
    return inclusive.reshape(*inclusive.shape[:-1], -1, 4) + SHIFT


@golden_files.parametrize('bbox_')
def test_box_arithmetic_is_the_published_one(golden_path):
    golden = golden_files.load(golden_path)
    first, second = half_open(golden['boxes'])[:, 0], half_open(golden['gt'])[:, 0]
    weights = (10, 10, 5, 5)
    np.testing.assert_allclose(boxes.encode(second, first), golden['encode_w1'], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(boxes.encode(second, first, weights), golden['encode_w10_5'], rtol=1e-5, atol=1e-4)
    per_class = golden['deltas'].reshape(len(first), -1, 4)
    decoded = boxes.decode(per_class, first[:, None])
    np.testing.assert_allclose(decoded, half_open(golden['decode_w1']), rtol=1e-5, atol=1e-3)
    scaled = golden['deltas_w10_5'].reshape(len(first), -1, 4)
    np.testing.assert_allclose(
        boxes.decode(scaled, first[:, None], weights), half_open(golden['decode_w10_5']), rtol=1e-5, atol=1e-3
    )
    clipped = boxes.clip(decoded, jnp.array(golden['clip_shape']))
    np.testing.assert_allclose(clipped, half_open(golden['decode_w1_clipped']), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(boxes.iou(first, second[: golden['iou'].shape[1]]), golden['iou'], atol=1e-6)


def test_decoding_undoes_encoding():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (2, 20, 2))
    target, anchors = np.concatenate([corners, corners + rng.uniform(2, 30, (2, 20, 2))], axis=-1)
    np.testing.assert_allclose(boxes.decode(boxes.encode(target, anchors), anchors), target, rtol=1e-4)


def test_empty_boxes_give_finite_numbers():
    nothing = jnp.zeros((2, 4))
    assert np.all(np.isfinite(boxes.encode(nothing, nothing)))
    assert np.all(np.asarray(boxes.iou(nothing, nothing)) == 0)
    np.testing.assert_array_equal(boxes.area(jnp.array([[3.0, 3.0, 1.0, 1.0]])), [0])


@golden_files.parametrize('anchors')
def test_anchors_are_the_published_ones(golden_path):
    golden = golden_files.load(golden_path)
    strides = [int(name.removeprefix('base_stride')) for name in golden if name.startswith('base_stride')]
    assert strides
    for stride in strides:
        grid = anchor_grid(5, 7, stride)
        np.testing.assert_allclose(grid - SHIFT, golden[f'grid_5x7_stride{stride}'], atol=1e-4)
        np.testing.assert_allclose(grid[0, 0] - SHIFT, golden[f'base_stride{stride}'], atol=1e-4)


@pytest.mark.parametrize('size', [(30, 40), (1, 1)])
def test_clipped_boxes_lie_inside(size):
    wild = np.random.default_rng(0).uniform(-100, 100, (50, 4)).astype(np.float32)
    x1, y1, x2, y2 = np.asarray(boxes.clip(wild, jnp.array(size))).T
    assert x1.min() >= 0 and y1.min() >= 0 and x1.max() <= size[1] - 1 and y1.max() <= size[0] - 1
    assert x2.min() >= 1 and y2.min() >= 1 and x2.max() <= size[1] and y2.max() <= size[0]

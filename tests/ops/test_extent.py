"""What lies outside an image's extent has no effect on what lies inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sognet_jax.kernels.roi_align import roi_align
from sognet_jax.ops.extent import image_extent, is_inside, mean_inside, reduced, zero_outside
from sognet_jax.ops.resize import resize_bilinear, resize_inside
from tests.support.roi_align import RUNNABLE

EXTENT = jnp.array([[5, 7], [8, 3]])


def arrays(seed):
    return jnp.array(np.random.default_rng(seed).normal(size=(2, 8, 9, 3)), jnp.float32)


def test_extents_are_multiples_of_32_and_round_up_below():
    size = jnp.array([[184, 250], [32, 33]])
    extent = image_extent(size)
    np.testing.assert_array_equal(extent, [[192, 256], [32, 64]])
    np.testing.assert_array_equal(image_extent(size.astype(float)), extent)
    np.testing.assert_array_equal(reduced(extent, 64), [[3, 4], [1, 1]])
    assert reduced(None, 4) is None


def test_zero_and_mean():
    x = arrays(0)
    for image, (rows, columns) in enumerate(EXTENT.tolist()):
        zeroed = np.asarray(zero_outside(x, EXTENT)[image])
        np.testing.assert_array_equal(zeroed[:rows, :columns], x[image, :rows, :columns])
        assert np.count_nonzero(zeroed) == rows * columns * 3
        mean = np.asarray(x[image, :rows, :columns], np.float64).mean(axis=(0, 1))
        np.testing.assert_allclose(mean_inside(x, EXTENT)[image, 0, 0], mean, atol=1e-6)
    assert is_inside((8, 9), EXTENT).sum() == 5 * 7 + 8 * 3
    np.testing.assert_array_equal(zero_outside(x, None), x)


def test_resizing_inside_is_resizing_the_part():
    x = arrays(1)
    result = resize_inside(x, (32, 36), EXTENT)
    for image, (rows, columns) in enumerate(EXTENT.tolist()):
        part = resize_bilinear(x[image, :rows, :columns], (4 * rows, 4 * columns))
        np.testing.assert_allclose(result[image, : 4 * rows, : 4 * columns], part, atol=1e-5)
        edge = np.broadcast_to(part[-1:], (32 - 4 * rows, 4 * columns, 3))
        np.testing.assert_allclose(result[image, 4 * rows :, : 4 * columns], edge, atol=1e-5)


def test_boxes_are_pooled_as_from_the_part():
    rng = np.random.default_rng(2)
    features = [jnp.array(rng.normal(size=(2, 32 // s, 48 // s, 3)), jnp.float32) for s in (4, 8)]
    extent = jnp.array([[32, 32], [32, 48]])
    corners = rng.uniform(-4, 28, (2, 10, 2))
    boxes = jnp.array(np.concatenate([corners, corners + rng.uniform(1, 16, (2, 10, 2))], -1), jnp.float32)
    level = jnp.array(rng.integers(0, 2, (2, 10)))
    parts = [x[:1, :, : 32 // s] for x, s in zip(features, (4, 8), strict=True)]
    for implementation in RUNNABLE:
        pool = jax.jit(functools.partial(roi_align, strides=(4, 8), output_size=3, implementation=implementation))
        pooled = pool(features, boxes, level, extent=extent)
        np.testing.assert_allclose(pooled[:1], pool(parts, boxes[:1], level[:1]), atol=1e-5)
        whole = pool(features, boxes, level)
        np.testing.assert_allclose(pooled[1:], whole[1:], atol=1e-5)

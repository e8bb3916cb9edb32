"""Resizing of feature maps, logits and masks."""

import jax
import jax.numpy as jnp
import numpy as np


def interpolation_matrix(out_size: int, in_size: int) -> np.ndarray:
    """Weights of bilinear interpolation along one axis, `[out_size, in_size]` float32.

    Half-pixel centres (align_corners=False), no antialiasing: output i reads at (i + 0.5) * in / out - 0.5, clamped to
    the first and last sample.
    """
    source = np.clip((np.arange(out_size) + 0.5) * in_size / out_size - 0.5, 0, in_size - 1)
    return np.maximum(1 - np.abs(source[:, None] - np.arange(in_size)), 0).astype(np.float32)


def resize_bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """`[..., H, W, C]` -> `[..., h, w, C]`, with the weights of `interpolation_matrix`."""
    for axis, length in zip((x.ndim - 3, x.ndim - 2), size, strict=True):
        if length == x.shape[axis]:
            continue
        if length % x.shape[axis] == 0:
            x = enlarge_axis(with_edges(x, axis), length // x.shape[axis], axis)
        else:
            weights = interpolation_matrix(length, x.shape[axis]).astype(x.dtype)
            # 'highest': GPUs would round the weights to ten bits.
            x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis), precision='highest'), 0, axis)
    return x


def enlarge_axis(x: jax.Array, factor: int, axis: int) -> jax.Array:
    """An axis of 1 + n + 1 values becomes one of `factor` n: `resize_bilinear` of the inner ones."""
    places = between_samples(x, factor, axis)
    return jnp.stack(places, axis + 1).reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


def between_samples(x: jax.Array, factor: int, axis: int) -> list[jax.Array]:
    """What each of n samples becomes when enlarged: n values for the first of `factor` places, n for the next ...

    What lies between two samples depends on its place between them alone: a sum of two neighbours for each place, where
    products with the whole matrix would multiply zeros. `x` has one more sample before the n and one behind them.
    """
    count = x.shape[axis] - 2
    before, here, after = (jax.lax.slice_in_dim(x, first, first + count, axis=axis) for first in range(3))
    places = []
    for left, middle, right in interpolation_matrix(3 * factor, 3)[factor:-factor].tolist():
        neighbour, share = (before, left) if left else (after, right)
        places.append(here * middle + neighbour * share if share else here)
    return places


def with_edges(x: jax.Array, axis: int) -> jax.Array:
    """An axis of n values becomes one of 1 + n + 1, whose first and last are there twice."""
    first, last = jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, -1, None, axis=axis)
    return jnp.concatenate([first, x, last], axis)


def resize_inside(x: jax.Array, size: tuple[int, int], extent: jax.Array) -> jax.Array:
    """`resize_bilinear` of what is inside the extent of each image, `[B, h, w, C]`; outside it, the edge is repeated.

    Args:
        x: `[B, H, W, C]`.
        size: h, w of the result.
        extent: `[B, 2]` rows and columns of x that count, at least 1.
    """
    for axis in (1, 2):
        limit = extent[:, axis - 1, None, None, None]
        last = jnp.take_along_axis(x, limit - 1, axis)
        x = jnp.where(jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) < limit, x, last)
    return resize_bilinear(x, size)


def upsample_nearest(x: jax.Array, factor: int) -> jax.Array:
    """`[..., H, W, C]` -> `[..., factor H, factor W, C]`, every pixel repeated."""
    *batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[..., :, None, :, None, :], (*batch, height, factor, width, factor, channels))
    return x.reshape(*batch, factor * height, factor * width, channels)

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
    """An axis of 1 + n + 1 values becomes one of `factor` n: `resize_bilinear` of the inner ones.

    What lies between two samples depends on its place between them alone: a sum of two neighbours for each of `factor`
    places, where products with the whole matrix would multiply zeros.
    """
    if factor == 1:
        return jax.lax.slice_in_dim(x, 1, -1, axis=axis)
    count = x.shape[axis] - 2
    before, here, after = (jax.lax.slice_in_dim(x, first, first + count, axis=axis) for first in range(3))
    places = []
    for left, middle, right in interpolation_matrix(3 * factor, 3)[factor:-factor].tolist():
        neighbour, share = (before, left) if left else (after, right)
        places.append(here * middle + neighbour * share)
    return jnp.stack(places, axis + 1).reshape(*x.shape[:axis], factor * count, *x.shape[axis + 1 :])


def with_edges(x: jax.Array, axis: int) -> jax.Array:
    """An axis of n values becomes one of 1 + n + 1, whose first and last are there twice."""
    first, last = jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, -1, None, axis=axis)
    return jnp.concatenate([first, x, last], axis)


def resize_inside(x: jax.Array, size: tuple[int, int], extent: jax.Array) -> jax.Array:
    """`resize_bilinear` of the part of each image inside its extent; outside it, the edge is repeated.

    Args:
        x: `[B, H, W, C]`.
        size: h, w of the result.
        extent: `[B, 2]` rows and columns of x that count, at least 1.

    Returns:
        `[B, h, w, C]`.
    """

    def weights(out_size: int, in_size: int, limit: jax.Array) -> jax.Array:
        source = (jnp.arange(out_size) + 0.5) * in_size / out_size - 0.5
        source = jnp.clip(source, 0, (limit - 1)[:, None])
        return jnp.maximum(1 - jnp.abs(source[..., None] - jnp.arange(in_size)), 0).astype(x.dtype)

    rows = weights(size[0], x.shape[1], extent[:, 0])
    columns = weights(size[1], x.shape[2], extent[:, 1])
    x = jnp.einsum('byh,bhwc->bywc', rows, x, precision='highest')
    return jnp.einsum('bxw,bywc->byxc', columns, x, precision='highest')


def upsample_nearest(x: jax.Array, factor: int) -> jax.Array:
    """`[..., H, W, C]` -> `[..., factor H, factor W, C]`, every pixel repeated."""
    *batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[..., :, None, :, None, :], (*batch, height, factor, width, factor, channels))
    return x.reshape(*batch, factor * height, factor * width, channels)

"""Resizing of feature maps, logits and masks."""

from __future__ import annotations

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
    """`[..., H, W, C]` -> `[..., h, w, C]`, as two products with `interpolation_matrix`."""
    height, width = x.shape[-3:-1]
    # 'highest': GPUs would round the weights to ten bits.
    if height != size[0]:
        rows = interpolation_matrix(size[0], height).astype(x.dtype)
        x = jnp.einsum('yh,...hwc->...ywc', rows, x, precision='highest')
    if width != size[1]:
        columns = interpolation_matrix(size[1], width).astype(x.dtype)
        x = jnp.einsum('xw,...ywc->...yxc', columns, x, precision='highest')
    return x


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

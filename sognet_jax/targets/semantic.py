"""What the semantic logits inside ground truth boxes are trained towards (published code only)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import inclusive_corners


def semantic_box_targets(semantic: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """The label map cropped to each box and resized, for one image.

    Published rounding: the crop has the pixels round(x1) .. round(x2) - 1 of the inclusive corners, at least one, and
    pixel i of the result is pixel floor(i * length / size) of the crop.

    Args:
        semantic: `[H, W]` semantic train ids at the resolution of the image.
        boxes: `[N, 4]` half-open boxes in image pixels.
        size: side of the result.

    Returns:
        `[N, size, size]` train ids.
    """
    corners = jnp.round(inclusive_corners(boxes)).astype(jnp.int32)

    def positions(first: jax.Array, last: jax.Array, limit: int) -> jax.Array:
        length = jnp.maximum(last - first, 1)[:, None]
        return jnp.clip(first[:, None] + jnp.arange(size) * length // size, 0, limit - 1)

    rows = positions(corners[:, 1], corners[:, 3], semantic.shape[0])
    columns = positions(corners[:, 0], corners[:, 2], semantic.shape[1])
    return semantic[rows[:, :, None], columns[:, None, :]]

"""What the mask head is trained towards: the matched instance's mask as seen through each sampled box."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sognet_jax.contract import MASK_LOGITS_SIDE
from sognet_jax.ops.boxes import inclusive_corners
from sognet_jax.ops.masks import crop_resize_masks


def mask_targets(masks: jax.Array, boxes: jax.Array, sampled: jax.Array, matched: jax.Array) -> jax.Array:
    """Binary masks in the frame of the sampled boxes, for one image.

    The published frame of a box is its inclusive corners with width x2 - x1 (no + 1), at least 1. The published code
    rasterises polygons in that frame; here the stored mask is sampled bilinearly and cut at one half.

    Args:
        masks: `[N, M, M]` ground truth masks in {0, 1}, each inside its own box.
        boxes: `[N, 4]` ground truth boxes.
        sampled: `[F, 4]` half-open boxes in image pixels.
        matched: `[F]` the instance that each sampled box belongs to.

    Returns:
        `[F, 28, 28]` float32 in {0, 1}.
    """
    corners = inclusive_corners(sampled)
    frame = jnp.concatenate([corners[:, :2], jnp.maximum(corners[:, 2:], corners[:, :2] + 1)], axis=-1)
    values = crop_resize_masks(masks[matched].astype(jnp.float32), boxes[matched], frame, MASK_LOGITS_SIDE)
    return (values >= 0.5).astype(jnp.float32)

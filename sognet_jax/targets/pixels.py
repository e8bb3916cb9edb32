"""Targets that are pixels: of the mask head, of the semantic logits inside boxes, of a panoptic head with void."""

import jax
import jax.numpy as jnp

from sognet_jax.contract import MASK_LOGITS_SIDE
from sognet_jax.ops.boxes import inclusive_corners
from sognet_jax.ops.masks import crop_resize_masks


def mask_targets(masks: jax.Array, boxes: jax.Array, sampled: jax.Array, matched: jax.Array) -> jax.Array:
    """Binary masks in the frame of the sampled boxes, for one image: `[F, 28, 28]` float32 in {0, 1}.

    The published frame of a box is its inclusive corners with width x2 - x1 (no + 1), at least 1. The published code
    rasterises polygons in that frame; here the stored mask is sampled bilinearly and cut at one half.

    Args:
        masks: `[N, M, M]` ground truth masks in {0, 1}, each inside its own box.
        boxes: `[N, 4]` ground truth boxes.
        sampled: `[F, 4]` half-open boxes in image pixels.
        matched: `[F]` the instance that each sampled box belongs to.
    """
    corners = inclusive_corners(sampled)
    frame = jnp.concatenate([corners[:, :2], jnp.maximum(corners[:, 2:], corners[:, :2] + 1)], axis=-1)
    values = crop_resize_masks(masks[matched].astype(jnp.float32), boxes[matched], frame, MASK_LOGITS_SIDE)
    return (values >= 0.5).astype(jnp.float32)


def semantic_box_targets(semantic: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """The label map cropped to each box and resized, `[N, size, size]`, for one image: in the published code alone.

    Published rounding: the crop has the pixels round(x1) .. round(x2) - 1 of the inclusive corners, at least one, and
    pixel i of the result is pixel floor(i * length / size) of the crop.

    Args:
        semantic: `[H, W]` semantic train ids at the resolution of the image.
        boxes: `[N, 4]` half-open boxes in image pixels.
        size: side of the result.
    """
    corners = jnp.round(inclusive_corners(boxes)).astype(jnp.int32)

    def positions(first: jax.Array, last: jax.Array, limit: int) -> jax.Array:
        length = jnp.maximum(last - first, 1)[:, None]
        return jnp.clip(first[:, None] + jnp.arange(size) * length // size, 0, limit - 1)

    rows = positions(corners[:, 1], corners[:, 3], semantic.shape[0])
    columns = positions(corners[:, 0], corners[:, 2], semantic.shape[1])
    return semantic[rows[:, :, None], columns[:, None, :]]


def void_targets(panoptic: jax.Array, unknown: jax.Array, *, num_stuff: int) -> jax.Array:
    """Pixels of instances that the head is not shown belong to the void channel, the one behind all instances.

    Args:
        panoptic: `[h, w]` 0..S-1 stuff, S + i instance i, negative: ignored.
        unknown: `[N]` bool, instances that are not shown.
        num_stuff: S.

    Returns:
        `[h, w]` int32: the same, S + N where an unknown instance was.
    """
    (num_instances,) = unknown.shape
    slot = panoptic.astype(jnp.int32) - num_stuff
    hidden = (slot >= 0) & unknown[jnp.clip(slot, 0, num_instances - 1)]
    return jnp.where(hidden, num_stuff + num_instances, panoptic.astype(jnp.int32))

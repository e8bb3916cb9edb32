"""From the outputs of the region proposal network to boxes, for one image; training and inference share it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import clip, decode
from sognet_jax.ops.extent import image_extent
from sognet_jax.ops.nms import nms

NMS_IOU = 0.7
"""Boxes that overlap a better one of their level by more than this are suppressed."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors on the offsets that the box head predicts for a proposal; those of the region proposal network have 1."""


def propose_boxes(
    scores: Sequence[jax.Array],
    deltas: Sequence[jax.Array],
    anchors: Sequence[jax.Array],
    image_size: jax.Array,
    *,
    pre_nms: int,
    post_nms: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best boxes of each level after non-maximum suppression, then the best of all levels.

    Anchors whose centre lies outside the image's extent (`ops.extent`) belong to padding and propose nothing.

    Args:
        scores: per level `[n_l]`, logits or probabilities (only their order matters).
        deltas: per level `[n_l, 4]` offsets.
        anchors: per level `[n_l, 4]` half-open boxes in image pixels.
        image_size: `[2]` height and width of the valid part of the image, to which boxes are clipped.
        pre_nms: boxes of each level that enter the suppression, by score.
        post_nms: boxes kept on each level, and then over all of them.

    Returns:
        boxes: `[post_nms, 4]` in score order; unused slots are 0.
        scores: `[post_nms]` as given, -inf in unused slots.
        valid: `[post_nms]` bool.
    """
    levels = [
        _propose_on_level(*level, image_size, pre_nms, post_nms) for level in zip(scores, deltas, anchors, strict=True)
    ]
    boxes, merged = (jnp.concatenate(arrays) for arrays in zip(*levels, strict=True))
    missing = max(post_nms - merged.shape[0], 0)
    boxes = jnp.pad(boxes, ((0, missing), (0, 0)))
    merged = jnp.pad(merged, (0, missing), constant_values=-jnp.inf)
    best, order = jax.lax.top_k(merged, post_nms)
    valid = best > -jnp.inf
    return jnp.where(valid[:, None], boxes[order], 0.0), best, valid


def _propose_on_level(
    scores: jax.Array, deltas: jax.Array, anchors: jax.Array, image_size: jax.Array, pre_nms: int, post_nms: int
) -> tuple[jax.Array, jax.Array]:
    """Boxes `[m, 4]` and scores `[m]` of one level, m = min(n, pre_nms, post_nms); score -inf in unused slots."""
    anchors = jnp.asarray(anchors)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    # A pixel of P6 may reach over the extent by half its size: its centre then lies on the edge.
    scores = jnp.where(jnp.all(centers[:, ::-1] <= image_extent(image_size), axis=-1), scores, -jnp.inf)
    best, order = jax.lax.top_k(scores, min(pre_nms, scores.shape[0]))
    boxes = clip(decode(deltas[order], anchors[order]), image_size)
    kept, is_kept = nms(boxes, best, best > -jnp.inf, NMS_IOU, min(post_nms, best.shape[0]))
    return boxes[kept], jnp.where(is_kept, best[kept], -jnp.inf)

"""Greedy non-maximum suppression with static shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import iou


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    valid: jax.Array,
    iou_threshold: float,
    max_outputs: int,
) -> tuple[jax.Array, jax.Array]:
    """Keeps boxes in descending score order unless a kept one overlaps them with IoU > `iou_threshold`.

    Equal scores keep their input order.

    Args:
        boxes: `[n, 4]` half-open.
        scores: `[n]`.
        valid: `[n]` bool; others neither survive nor suppress.
        iou_threshold: IoU that is still allowed.
        max_outputs: length of the result.

    Returns:
        indices `[max_outputs]` int32 into the input in score order, and `[max_outputs]` bool that says which of them
        are real; the rest is 0.
    """
    count = boxes.shape[0]
    order = jnp.argsort(jnp.where(valid, scores, -jnp.inf), stable=True, descending=True)
    boxes, alive = boxes[order], valid[order]
    suppresses = iou(boxes, boxes) > iou_threshold
    position = jnp.arange(count)

    def visit(index: jax.Array, alive: jax.Array) -> jax.Array:
        return alive & ~(suppresses[index] & alive[index] & (position > index))

    alive = jax.lax.fori_loop(0, count, visit, alive)
    (kept,) = jnp.nonzero(alive, size=max_outputs, fill_value=0)
    is_kept = jnp.arange(max_outputs) < jnp.sum(alive)
    return jnp.where(is_kept, order[kept], 0).astype(jnp.int32), is_kept

"""Greedy non-maximum suppression with static shapes, in a few rounds."""

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import iou


def nms(
    boxes: jax.Array, scores: jax.Array, valid: jax.Array, iou_threshold: float, max_outputs: int
) -> tuple[jax.Array, jax.Array]:
    """Keeps boxes in descending score order unless a kept one overlaps them with IoU > `iou_threshold`.

    Equal scores keep their input order.

    All boxes are looked at together, round after round: one stays if no better box that has stayed overlaps it. After
    r rounds that is settled for all boxes on which at most r others depend in a row; it ends when nothing changes, for
    proposals of an image after 4 to 7 rounds, where one box after the other would take as many as there are boxes.

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
    boxes, real = boxes[order], valid[order]
    is_better = jnp.arange(count)[:, None] < jnp.arange(count)
    suppresses = (iou(boxes, boxes) > iou_threshold) & is_better

    def settle(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        before, _ = state
        after = real & ~jnp.any(suppresses & before[:, None], axis=0)
        return after, jnp.any(after != before)

    alive, _ = jax.lax.while_loop(lambda state: state[1], settle, (real, jnp.array(True)))
    (kept,) = jnp.nonzero(alive, size=max_outputs, fill_value=0)
    is_kept = jnp.arange(max_outputs) < jnp.sum(alive)
    return jnp.where(is_kept, order[kept], 0).astype(jnp.int32), is_kept

"""From mask logits, overlap relations and semantic logits to the panoptic id map at full resolution."""

import jax

from sognet_jax.choices import OUTSIDE, PANOPTIC_HEADS, RESOLVE, require_choice
from sognet_jax.kernels.choice import INTERPRETED, TRITON, XLA, choose_implementation
from sognet_jax.kernels.panoptic_fusion import reference
from sognet_jax.kernels.panoptic_fusion.painting import Inputs, Options

IMPLEMENTATIONS = (XLA, TRITON, INTERPRETED)


def panoptic_fusion(
    mask_logits: jax.Array,
    boxes: jax.Array,
    classes: jax.Array,
    valid: jax.Array,
    relations: jax.Array,
    semantic: jax.Array,
    size: tuple[int, int],
    *,
    partners: jax.Array,
    num_stuff: int,
    head: int = 2,
    balance: float = 2.0,
    resolve: str = 'joint',
    outside: str = 'zero',
    void_channel: bool = False,
    implementation: str | None = None,
) -> jax.Array:
    """Overlap resolving, panoptic head (Eq. 6 to 10) and arg max over stuff and instances, for one image.

    Instances are visited, and ties of the arg max decided, in the order of decreasing `partners`, lower index first;
    stuff classes come before instances. A pasted logit is 0 outside its box, so that an instance can win there where
    every other logit is negative (published).

    Args:
        mask_logits: `[K, M, M]` mask logits of each instance's own class.
        boxes: `[K, 4]` half-open boxes in image pixels.
        classes: `[K]` thing classes.
        valid: `[K]` bool; the others win no pixel and take no part.
        relations: `[K, K]` O, > 0 at (i, j) where i is covered by j; rows and columns of unused slots are 0.
        semantic: `[H / s, W / s, S + T]` semantic logits, s an integer.
        size: H, W of the result.
        partners: `[K]` int, the number of instances that each one overlaps.
        num_stuff: S.
        head: 1 is Eq. (9), 2 is Eq. (10).
        balance: k of Eq. (10).
        resolve: `'joint'` is Eq. (8), `'sequential'` goes pair by pair (published inference).
        outside: `'zero'`: outside its box an instance has probability 0.5 (published); `'absent'`: 0.
        void_channel: UPSNet's: pixels are void where a thing is seen, but no instance of it.
        implementation: one of `IMPLEMENTATIONS`, or None for the fastest that can run.

    Returns:
        `[H, W]` int32: 0..S-1 stuff, S + k instance k, -1 void (with a void channel).

    Raises:
        ValueError: an option or the implementation is unknown, or it cannot run here; H, W is no multiple of the size
            of `semantic`.
    """
    require_choice('head', head, PANOPTIC_HEADS)
    require_choice('resolve', resolve, RESOLVE)
    require_choice('outside', outside, OUTSIDE)
    height, width = size
    stride = height // semantic.shape[0]
    if (semantic.shape[0] * stride, semantic.shape[1] * stride) != (height, width):
        raise ValueError(f'size {(height, width)} must be one integer times that of semantic, {semantic.shape[:2]}')
    chosen = choose_implementation('panoptic_fusion', implementation, IMPLEMENTATIONS)
    inputs = Inputs(mask_logits, boxes, classes, valid, relations, semantic, partners)
    options = Options(num_stuff, head, balance, resolve, outside, void_channel)
    if chosen == XLA:
        return reference.panoptic_fusion(inputs, (height, width), options)
    # Only here: a JAX without Triton can still import this.
    from sognet_jax.kernels.panoptic_fusion import triton

    return triton.panoptic_fusion(inputs, (height, width), options, interpret=chosen == INTERPRETED)

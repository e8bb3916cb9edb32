"""The losses of all pixels, semantic and panoptic, by strips of rows.

The paper's formulation holds `[S + T, H, W]` up-sampled semantic logits and several `[N, H / 4, W / 4]` logits of
instances, and all of them once more for the gradient. Here every strip goes through the same formulas by itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax import losses
from sognet_jax.contract import PANOPTIC_IGNORE, PANOPTIC_STRIDE, SEMANTIC_IGNORE
from sognet_jax.models.panoptic_head import panoptic_logits, semantic_instance_logits, void_logits
from sognet_jax.ops.masks import paste_masks
from sognet_jax.ops.overlap import combine, resolve_overlaps
from sognet_jax.ops.strips import cut_rows, cut_rows_with_neighbours, enlarge_strip, strip_height, sum_over_strips


def semantic_losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy at full resolution, `[B]` float32, as published: logits up-sampled, ignored pixels left out.

    Args:
        logits: `[B, h, w, S + T]` semantic logits.
        labels: `[B, H, W]` train ids, `SEMANTIC_IGNORE` where there is none; H, W are a multiple of h, w.

    Raises:
        ValueError: H, W are not one multiple of h, w.
    """
    batch, height, width, classes = logits.shape
    factor = labels.shape[1] // height
    if labels.shape[1:] != (factor * height, factor * width):
        raise ValueError(f'labels of size {labels.shape[1:]} for logits of size {(height, width)}: not a multiple')
    num_known = jnp.sum(labels != SEMANTIC_IGNORE, axis=(1, 2))
    strip = strip_height(height, factor * batch * labels.shape[2] * classes)

    def of_strip(rows: tuple[jax.Array, jax.Array]) -> jax.Array:
        low, labels = rows
        return jax.vmap(losses.semantic_loss)(enlarge_strip(low, factor), labels, num_known)

    rows = cut_rows_with_neighbours(logits, strip), cut_rows(labels, factor * strip, SEMANTIC_IGNORE)
    return sum_over_strips(of_strip, rows)


class ShownInstances(NamedTuple):
    """What the panoptic head gets of the instances of a batch."""

    mask_logits: jax.Array  # `[B, N, M, M]` of the class and inside the box of each
    boxes: jax.Array  # `[B, N, 4]` in image pixels
    classes: jax.Array  # `[B, N]` thing classes
    shown: jax.Array  # `[B, N]` bool; the other slots have no channel
    relations: jax.Array  # `[B, N, N]` O


def panoptic_losses(
    instances: ShownInstances,
    semantic: jax.Array,
    labels: jax.Array,
    num_pixels: jax.Array,
    *,
    num_stuff: int,
    head: int,
    outside: str,
    void_channel: bool,
) -> jax.Array:
    """L_panoptic, `[B]` float32: overlaps resolved by Eq. (8), combined by Eq. (9) or (10), cross entropy.

    Args:
        instances: those of the batch.
        semantic: `[B, h, w, S + T]` semantic logits.
        labels: `[B, h, w]` the channel, 0..S-1 stuff, S + i instance i, S + N void; negative: ignored.
        num_pixels: `[B]` pixels that the mean is over.
        num_stuff: S.
        head: 1 (Eq. 9) or 2 (Eq. 10).
        outside: `zero` or `absent`, see `Objective.outside`.
        void_channel: there is a channel for void.
    """
    mask_logits, boxes, classes, shown, relations = instances
    batch, height, width, _ = semantic.shape

    def of_strip(rows: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        semantic, labels, top = rows
        size = (semantic.shape[1], width)
        pasted, inside = paste_masks(mask_logits, boxes, size, PANOPTIC_STRIDE, top=top)
        resolved = resolve_overlaps(pasted, relations, inside if outside == 'absent' else None)
        own = semantic_instance_logits(
            semantic, boxes, classes, num_stuff=num_stuff, stride=PANOPTIC_STRIDE, top=top
        )  # fmt: skip
        stuff, things = semantic[..., :num_stuff], semantic[..., num_stuff:]
        void = void_logits(jnp.moveaxis(things, -1, -3), own, shown) if void_channel else None
        logits = panoptic_logits(stuff, combine(own, resolved, head=head), shown, void)
        return jax.vmap(losses.panoptic_loss)(logits, labels, num_pixels)

    # A, s(A), A' and Z of the instances, and the logits that the soft-max is over.
    channels = 5 * mask_logits.shape[1] + num_stuff
    strip = strip_height(height, batch * width * channels)
    tops = jnp.arange(-(-height // strip)) * strip
    return sum_over_strips(of_strip, (cut_rows(semantic, strip), cut_rows(labels, strip, PANOPTIC_IGNORE), tops))

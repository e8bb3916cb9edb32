"""What the box and mask heads are trained on: a sample of the proposals with classes and offsets, for one image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import encode, iou
from sognet_jax.ops.proposals import BOX_WEIGHTS
from sognet_jax.ops.sampling import sample

FOREGROUND_IOU = 0.5


class SampledProposals(NamedTuple):
    """A static batch of R boxes: foreground first, then background, then unused slots."""

    boxes: jax.Array  # `[R, 4]`
    labels: jax.Array  # `[R]` int32, 0 background, k + 1 thing class k
    valid: jax.Array  # `[R]` bool, used slots
    matched: jax.Array  # `[R]` int32, the instance (no crowd) with the highest IoU: its mask is what the box sees
    targets: jax.Array  # `[R, 4]` weighted offsets to the ground truth box of the label where it is foreground, else 0


def sample_proposals(
    proposals: jax.Array,
    proposal_valid: jax.Array,
    boxes: jax.Array,
    classes: jax.Array,
    valid: jax.Array,
    crowd: jax.Array,
    *,
    batch_size: int,
    fg_fraction: float = 0.25,
    priority: jax.Array,
) -> SampledProposals:
    """Draws boxes from the ground truth boxes and the proposals, by the published rules.

    Foreground has an IoU of at least 0.5 with some instance, background less (0 included). At most
    `fg_fraction * batch_size` are foreground, so they all lie in the first that many slots; background fills the rest.

    The box of a crowd region is no candidate, but proposals that match it are foreground of its class, with the mask of
    some instance: published code trains on crowds to that extent, and the stored reference numbers have it.

    Args:
        proposals: `[P, 4]` half-open boxes in image pixels.
        proposal_valid: `[P]` bool.
        boxes: `[N, 4]` ground truth boxes.
        classes: `[N]` thing classes 0..T-1.
        valid: `[N]` bool, real instances that are no crowd regions.
        crowd: `[N]` bool, crowd regions.
        batch_size: R, slots to fill.
        fg_fraction: the share of them that may be foreground.
        priority: `[N + P]`, ground truth first; where there is a choice, low priority values are taken.
    """
    candidates = jnp.concatenate([boxes, proposals])
    usable = jnp.concatenate([valid, proposal_valid])
    overlaps = iou(candidates, boxes)
    matched = jnp.argmax(jnp.where(valid, overlaps, -1.0), axis=1).astype(jnp.int32)
    overlaps = jnp.where(valid | crowd, overlaps, -1.0)
    labelled_by = jnp.argmax(overlaps, axis=1)
    highest = jnp.max(overlaps, axis=1)

    is_foreground = usable & (highest >= FOREGROUND_IOU)
    foreground = sample(is_foreground, round(fg_fraction * batch_size), priority)
    background = sample(usable & ~is_foreground, batch_size - jnp.sum(foreground), priority)
    slots = jnp.argsort(jnp.where(foreground, 0, jnp.where(background, 1, 2)), stable=True)[:batch_size]
    slots = jnp.pad(slots, (0, batch_size - slots.shape[0]))  # fewer candidates than slots
    num_used = jnp.sum(foreground) + jnp.sum(background)

    used = jnp.arange(batch_size) < num_used
    is_foreground = foreground[slots] & used
    own = labelled_by[slots]
    labels = jnp.where(is_foreground, classes[own] + 1, 0).astype(jnp.int32)
    targets = jnp.where(is_foreground[:, None], encode(boxes[own], candidates[slots], BOX_WEIGHTS), 0.0)
    return SampledProposals(candidates[slots], labels, used, matched[slots], targets)

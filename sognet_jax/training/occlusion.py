"""What the occlusion head is trained with, beside the rest of the network or alone."""

import functools

import jax
import jax.numpy as jnp

from sognet_jax import losses
from sognet_jax.models.occlusion_head import overlapping_enough
from sognet_jax.models.sognet import Pyramid, SOGNet
from sognet_jax.targets.occlusion import occlusion_targets
from sognet_jax.targets.proposals import SampledProposals
from sognet_jax.training.relation import PAIR_COUNTS, Batch


def occlusion_losses(
    network: SOGNet, features: Pyramid, batch: Batch, sampled: SampledProposals,
    is_foreground: jax.Array, mask_logits: jax.Array, priority: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:  # fmt: skip
    """The cross entropy of "i lies on j" over pairs of foreground boxes whose masks overlap, for each image.

    Masks are the predicted ones, as at inference and without gradient: the step has them already (the publication does
    not say which are meant).

    Args:
        sampled: `[B, R, ...]` boxes, of which the first F may be foreground.
        is_foreground, mask_logits: `[B, F]` and `[B, F, 28, 28]`.
        priority: `[B, F, F]`, see `occlusion_targets`.

    Returns:
        Losses `[B]` float32; and, named as in `count_pairs`, how many answers were asked for and how many were right.
    """
    mask_logits = jax.lax.stop_gradient(mask_logits)
    boxes, matched = (values[:, : is_foreground.shape[1]] for values in (sampled.boxes, sampled.matched))
    size = batch['image'].shape[1], batch['image'].shape[2]
    overlap = overlapping_enough(mask_logits, boxes, is_foreground, batch['image_size'], size)
    choose = jax.vmap(functools.partial(occlusion_targets, k=network.occlusion['pairs']))
    pairs, lies_on = choose(batch['order'], batch['decided'], matched, overlap, priority)
    logits = network.occlude(features, boxes, mask_logits, pairs, batch['image_size'])
    right = pairs.valid & ((logits > 0) == lies_on)
    counted = (pairs.valid, pairs.valid, jnp.zeros_like(right), pairs.valid, right)
    counts = {name: jnp.sum(which, dtype=jnp.float32) for name, which in zip(PAIR_COUNTS, counted, strict=True)}
    return jax.vmap(losses.occlusion_loss)(logits, lies_on, pairs.valid), counts

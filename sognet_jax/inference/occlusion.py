"""What the occlusion head says of the instances of an image, as overlap relations."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.models.occlusion_head import overlapping_enough
from sognet_jax.models.sognet import Pyramid, SOGNet
from sognet_jax.ops.sampling import sample_pairs


def occlusion_relations(
    network: SOGNet, features: Pyramid, boxes: jax.Array, mask_logits: jax.Array, valid: jax.Array,
    image_size: jax.Array, size: tuple[int, int],
) -> jax.Array:  # fmt: skip
    """O by the occlusion head, from the detections `[B, K, ...]` of a batch in score order.

    It is asked of overlapping pairs whether the worse detection lies on the better one: the other way round nobody
    asks in a merge by score. Where there are too many pairs, those of the worst detections are left out.

    Returns:
        `[B, K, K]`: at (i, j) the probability that j lies on i where it is the more probable way round, else 0.
    """
    count = valid.shape[1]
    overlap = jnp.tril(overlapping_enough(mask_logits, boxes, valid, image_size, size), -1)
    in_order = jnp.arange(count**2).reshape(count, count)
    pairs = jax.vmap(lambda candidates: sample_pairs(candidates, network.occlusion['pairs'], in_order))(overlap)
    logits = network.occlude(features, boxes, mask_logits, pairs, image_size)

    def write(worse: jax.Array, better: jax.Array, asked: jax.Array, logits: jax.Array) -> jax.Array:
        lies_on = logits > 0
        covered, covering = jnp.where(lies_on, better, worse), jnp.where(lies_on, worse, better)
        return jnp.zeros((count, count)).at[covered, covering].max(jnp.where(asked, nn.sigmoid(jnp.abs(logits)), 0.0))

    return jax.vmap(write)(*pairs, logits)

"""What the relation head is trained towards, alone or with the network, and how far it is.

It reads ground truth alone: boxes, classes and masks of instances, and which of them overlap.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax import losses
from sognet_jax.models.relation_head import Relations

Batch = Mapping[str, jax.Array]

RELATION_LOSSES = ('overlap', 'order', 'order_cross_entropy')
"""Eq. (12), Eq. (14), and the cross entropy of M and R*."""

SATURATED = 0.01
"""A potential this near to 0 or 1 counts as saturated: the sigmoid has passed on less than this of any gradient."""


PAIR_COUNTS = ('overlapping_pairs', 'related_pairs', 'saturated_pairs', 'ordered_pairs', 'rightly_ordered_pairs')


def relation_losses(relations: Relations, batch: Batch, loss: str) -> jax.Array:
    """The relation loss of each image, `[B]` float32: one of `RELATION_LOSSES`, of the annotated instances."""
    takes_part, potential, matrix = relations
    if loss == 'overlap':
        return jax.vmap(losses.overlap_relation_loss)(matrix, batch['overlap'], takes_part)
    if loss == 'order':
        return jax.vmap(losses.order_relation_loss)(matrix, batch['order'], batch['decided'], takes_part)
    return jax.vmap(losses.order_cross_entropy_loss)(potential, batch['order'], batch['decided'], takes_part)


def count_pairs(relations: Relations, batch: Batch) -> dict[str, jax.Array]:
    """What can be seen of the relations while they are learned, summed over the pairs of a batch; float32 scalars.

    Returns:
        The `PAIR_COUNTS`: pairs with R = 1; those with O >= 0.5 one way or the other; those whose M is within
        `SATURATED` of 0 or 1 both ways; pairs whose order is known; those with O >= 0.5 on the right side.
    """
    one_way = relations.matrix >= 0.5  # never both ways, Eq. (5)
    overlap = batch['overlap'] & jnp.triu(jnp.ones(one_way.shape[-2:], bool))
    potential = nn.sigmoid(relations.potential)
    saturated = (potential < SATURATED) | (potential > 1 - SATURATED)
    counted = (
        overlap,
        overlap & (one_way | one_way.mT),
        overlap & saturated & saturated.mT,
        batch['order'],
        batch['order'] & one_way,
    )
    return {name: jnp.sum(pairs, dtype=jnp.float32) for name, pairs in zip(PAIR_COUNTS, counted, strict=True)}

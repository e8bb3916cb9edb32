"""What the occlusion head is trained towards: pairs of sampled boxes, and which of the two lies on the other."""

import jax
import jax.numpy as jnp

from sognet_jax.ops.sampling import Pairs, sample_pairs


def occlusion_targets(
    order: jax.Array, decided: jax.Array, matched: jax.Array, overlap: jax.Array, priority: jax.Array, *, k: int
) -> tuple[Pairs, jax.Array]:
    """Draws pairs of boxes of different instances of which one is known to lie on the other, for one image.

    Args:
        order, decided: `[N, N]` bool of the data contract.
        matched: `[F]` the instance of each box.
        overlap: `[F, F]` bool, symmetric: boxes that may be a pair.
        priority: `[F, F]`; where there is a choice, low values are taken.
        k: how many pairs are drawn; each is there twice, once either way round.

    Returns:
        The pairs, 2 k or fewer, and for each whether the first instance lies on the second.
    """
    lies_on = (order & decided).T[matched][:, matched]
    first, second, valid = sample_pairs(jnp.triu(overlap & (lies_on | lies_on.T)), k, priority)
    both = Pairs(*(jnp.concatenate(ways) for ways in ((first, second), (second, first), (valid, valid))))
    return both, lies_on[both.first, both.second]

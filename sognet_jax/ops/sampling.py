"""Sampling a fixed number of candidates with static shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def sample(candidates: jax.Array, k: int | jax.Array, priority: jax.Array) -> jax.Array:
    """The `k` candidates of lowest priority value, as a mask.

    Random priorities draw at random; `jnp.arange(n)` takes the first ones in index order.

    Args:
        candidates: `[n]` bool.
        k: how many; may be traced.
        priority: `[n]`; ties go to the lower index.

    Returns:
        `[n]` bool: all candidates where there are at most `k`.
    """
    order = jnp.argsort(jnp.where(candidates, priority, jnp.inf), stable=True)
    rank = jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
    return candidates & (rank < k)

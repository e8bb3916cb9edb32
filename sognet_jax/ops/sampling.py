"""Sampling a fixed number of candidates with static shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def sample(candidates: jax.Array, k: int | jax.Array, priority: jax.Array) -> jax.Array:
    """The `k` candidates of lowest priority value, as a mask `[n]`; all of them where there are at most `k`.

    Random priorities draw at random; `jnp.arange(n)` takes the first ones in index order.

    Args:
        candidates: `[n]` bool.
        k: how many; may be traced.
        priority: `[n]`; ties go to the lower index.
    """
    order = jnp.argsort(jnp.where(candidates, priority, jnp.inf), stable=True)
    rank = jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
    return candidates & (rank < k)


class Pairs(NamedTuple):
    """A fixed number k of ordered pairs, `[k]` each; those that are not valid mean nothing."""

    first: jax.Array
    second: jax.Array
    valid: jax.Array


def sample_pairs(candidates: jax.Array, k: int, priority: jax.Array) -> Pairs:
    """The `k` candidates of lowest priority value.

    Args:
        candidates: `[n, n]` bool, at (i, j) whether i and j, in this order, may be a pair.
        k: how many, up to n^2.
        priority: `[n, n]`, finite; ties go to the lower i, then to the lower j.
    """
    value, place = jax.lax.top_k(jnp.where(candidates, -priority, -jnp.inf).reshape(-1), min(k, candidates.size))
    return Pairs(*jnp.divmod(place, len(candidates)), value > -jnp.inf)

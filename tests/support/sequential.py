"""Overlaps resolved pair by pair, as the published inference does it: what the fused operator is held against."""

import jax
import jax.numpy as jnp

from sognet_jax.ops.overlap import presence


def resolve_overlaps_sequential(logits: jax.Array, relations: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """Overlaps resolved pair by pair, each on the logits that the pairs before it left (published inference).

    Pairs come in the order (0, 1), (0, 2), ..., (1, 2), ...; within a pair, Eq. (6) is applied to both instances at
    once. For one image.

    Args:
        logits: `[N, H, W]` mask logits A pasted into the image.
        relations: `[N, N]` overlap relations O.
        inside: `[N, H, W]` bool where an instance may be present, or None (see `presence`).

    Returns:
        `[N, H, W]` resolved logits.
    """
    count = logits.shape[0]

    def resolve_pair(current: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
        pair = jnp.stack([current[i], current[j]])
        present = presence(pair, None if inside is None else jnp.stack([inside[i], inside[j]]))
        strength = jnp.stack([relations[i, j], relations[j, i]])[:, None, None]
        resolved = pair - pair * present[0] * present[1] * strength
        return current.at[i].set(resolved[0]).at[j].set(resolved[1])

    def visit(index: jax.Array, current: jax.Array) -> jax.Array:
        i, j = index // count, index % count
        related = (j > i) & (relations[i, j] + relations[j, i] > 0)
        return jax.lax.cond(related, resolve_pair, lambda unchanged, *_: unchanged, current, i, j)

    return jax.lax.fori_loop(0, count * count, visit, logits)

"""Overlap resolving pair by pair, for the few instances that touch a tile."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax.ops.overlap import presence

PRESENCE_OUTSIDE = 0.5
"""s(0): what a pasted logit of 0 gives an instance outside its box (published)."""


class Coverings(NamedTuple):
    """Who covers each instance, nobody's slots last; made once for an image.

    An instance meets the others in the order of their numbers, whatever the pair: (0, i), (1, i), ..., (i, i + 1), ...
    """

    by: jax.Array  # [K, K] int: the instances that cover i, in their order
    strength: jax.Array  # [K, K] O of each, 0 behind the last
    before: jax.Array  # [K, K] int: at (i, j), how many with a number below j cover i
    number: jax.Array  # [K] int: how many cover i


def list_coverings(relations: jax.Array) -> Coverings:
    """The coverings of `[K, K]` relations O."""
    covers = relations > 0
    by = jnp.argsort(~covers, axis=1, stable=True)
    before = jnp.cumsum(covers, axis=1) - covers
    return Coverings(by, jnp.take_along_axis(relations, by, axis=1), before, jnp.sum(covers, axis=1))


def resolve_pairs(
    logits: jax.Array,
    inside: jax.Array | None,
    slots: jax.Array,
    num_slots: jax.Array,
    is_here: jax.Array,
    relations: jax.Array,
    coverings: Coverings,
) -> jax.Array:
    """Eq. (6) for all pairs one after the other, as published, seen in the pixels that only some instances touch.

    Pairs of two instances that touch the pixels go in their order; before each, its two instances are weakened by
    those that are not here and come earlier, which are present with 0.5 everywhere, or nowhere if `inside` is given.

    Args:
        logits: `[C, P]` pasted logits of the instances that are here, in their order.
        inside: `[C, P]` bool where each may be present, or None for everywhere.
        slots: `[C]` their numbers.
        num_slots: so many of the slots are in use.
        is_here: `[K]` bool.
        relations: `[K, K]` O.
        coverings: of O.

    Returns:
        `[C, P]` resolved logits; slots not in use have no meaning.
    """
    size = len(slots)
    used = jnp.arange(size) < num_slots
    strength = jnp.where(used[:, None] & used, relations[slots][:, slots], 0.0)
    before = coverings.before[slots][:, slots]
    # What weakens an instance without looking at any logits.
    outside = PRESENCE_OUTSIDE if inside is None else 0.0
    blind = jnp.where(is_here[coverings.by[slots]], 0.0, outside * coverings.strength[slots])

    def visible(row: jax.Array, slot: jax.Array) -> jax.Array:
        return presence(row, None if inside is None else inside[slot])

    def coefficient(slot: jax.Array, step: jax.Array, end: jax.Array) -> jax.Array:
        return jnp.where(step < end, blind[slot, jnp.minimum(step, blind.shape[1] - 1)], 0.0)

    def meet(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        current, done = carry
        i, j = pairs[index] // size, pairs[index] % size
        starts, ends = (done[i], done[j]), (before[i, j], before[j, i])
        steps = jnp.maximum(ends[0] - starts[0], ends[1] - starts[1]) if inside is None else 0

        def step(index: jax.Array, rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            (a, b), (s_a, s_b) = rows, (visible(rows[0], i), visible(rows[1], j))
            covered_a = coefficient(i, starts[0] + index, ends[0]) + s_b * jnp.where(index == steps, strength[i, j], 0)
            covered_b = coefficient(j, starts[1] + index, ends[1]) + s_a * jnp.where(index == steps, strength[j, i], 0)
            return a - a * s_a * covered_a, b - b * s_b * covered_b

        a, b = jax.lax.fori_loop(0, steps + 1, step, (current[i], current[j]))
        return current.at[i].set(a).at[j].set(b), done.at[i].set(ends[0]).at[j].set(ends[1])

    def finish(slot: jax.Array, current: jax.Array) -> jax.Array:
        def step(index: jax.Array, row: jax.Array) -> jax.Array:
            return row - row * presence(row, None) * blind[slot, index]

        row = jax.lax.fori_loop(done[slot], coverings.number[slots[slot]], step, current[slot])
        return current.at[slot].set(row)

    related = jnp.triu(strength + strength.T, 1).reshape(-1) > 0
    pairs = jnp.argsort(~related, stable=True)
    current, done = jax.lax.fori_loop(0, jnp.sum(related), meet, (logits, jnp.zeros(size, int)))
    return current if inside is not None else jax.lax.fori_loop(0, num_slots, finish, current)

"""Overlap relations, overlap resolving, and what the panoptic head adds to it: Eq. (5) to (10) of the paper.

Index direction everywhere: `relations[i, j] > 0` says that instance i is covered by instance j.
"""

import jax
import jax.numpy as jnp


def overlap_relations(potential: jax.Array, takes_part: jax.Array) -> jax.Array:
    """The overlap relation matrix O = relu(M - M^T), Eq. (5).

    Args:
        potential: `[..., N, N]` M in (0, 1), the potential of i being covered by j.
        takes_part: `[..., N]` bool, instances that overlap at least one other; the rest gets zero rows and columns
            ("we filter out the instances that have no overlap", Implementation Details).

    Returns:
        `[..., N, N]` O in [0, 1), with a zero diagonal and at most one of O_ij, O_ji positive.
    """
    pairs = takes_part[..., :, None] & takes_part[..., None, :]
    return jnp.where(pairs, jax.nn.relu(potential - jnp.swapaxes(potential, -1, -2)), 0.0)


def presence(logits: jax.Array, inside: jax.Array | None) -> jax.Array:
    """s(A): the sigmoid of pasted mask logits, as a probability that the instance is at a pixel.

    Pasted logits are 0 outside their box, so that s is 0.5 there in the published code (`inside=None`). With `inside`,
    a bool array of the shape of `logits`, an instance is absent outside its box: s is 0 there.
    """
    probability = jax.nn.sigmoid(logits)
    return probability if inside is None else jnp.where(inside, probability, 0.0)


def resolve_overlaps(logits: jax.Array, relations: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """All overlaps at once, Eq. (8): the resolved logits A' = A - A * s(A) * (s(A) x_3 O^T), `[..., N, H, W]`.

    Args:
        logits: `[..., N, H, W]` mask logits A pasted into the image.
        relations: `[..., N, N]` overlap relations O.
        inside: `[..., N, H, W]` bool where an instance may be present, or None (see `presence`).
    """
    present = presence(logits, inside)
    covering = jnp.einsum('...ij,...jhw->...ihw', relations, present)
    return logits - logits * present * covering


def combine(semantic: jax.Array, resolved: jax.Array, *, head: int, balance: float = 2.0) -> jax.Array:
    """Z_i: semantic and resolved mask logits of an instance together.

    Args:
        semantic: `[..., N, h, w]` X.
        resolved: `[..., N, h, w]` A'.
        head: 1 adds them, Eq. (9) (UPSNet); 2 is Eq. (10).
        balance: k of Eq. (10).

    Raises:
        ValueError: `head` is neither 1 nor 2.
    """
    if head == 1:
        return semantic + resolved
    if head == 2:
        return balance * semantic * jax.nn.sigmoid(resolved) + resolved
    raise ValueError(f'panoptic head must be 1 (Eq. 9) or 2 (Eq. 10), not {head!r}')

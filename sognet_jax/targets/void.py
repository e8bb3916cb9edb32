"""Targets of the panoptic head with a void channel (UPSNet, Xiong et al. 2019)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def void_targets(panoptic: jax.Array, unknown: jax.Array, *, num_stuff: int) -> jax.Array:
    """Pixels of instances that the head is not shown belong to the void channel, the one behind all instances.

    Args:
        panoptic: `[h, w]` 0..S-1 stuff, S + i instance i, negative: ignored.
        unknown: `[N]` bool, instances that are not shown.
        num_stuff: S.

    Returns:
        `[h, w]` int32: the same, S + N where an unknown instance was.
    """
    (num_instances,) = unknown.shape
    slot = panoptic.astype(jnp.int32) - num_stuff
    hidden = (slot >= 0) & unknown[jnp.clip(slot, 0, num_instances - 1)]
    return jnp.where(hidden, num_stuff + num_instances, panoptic.astype(jnp.int32))

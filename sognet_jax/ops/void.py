"""The void channel of UPSNet (Xiong et al. 2019), which SOGNet leaves out."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def void_logits(things: jax.Array, semantic: jax.Array, valid: jax.Array) -> jax.Array:
    """The logit of void: a thing is there, but no instance of it.

    The highest semantic logit of any thing, less the highest that an instance has of it.

    Args:
        things: `[..., T, h, w]` semantic logits of the thing classes.
        semantic: `[..., N, h, w]` X.
        valid: `[..., N]` bool; where no instance is, the second term is 0.

    Returns:
        `[..., h, w]`.
    """
    best = jnp.max(jnp.where(valid[..., None, None], semantic, -jnp.inf), axis=-3)
    return jnp.max(things, axis=-3) - jnp.where(jnp.isfinite(best), best, 0.0)

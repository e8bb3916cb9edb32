"""The panoptic head: per-pixel instance id classification from semantic and resolved mask logits, Eq. (9) and (10)."""

import jax
import jax.numpy as jnp

from sognet_jax.ops.masks import semantic_crop

ABSENT = -1e9
"""Logit of an empty instance slot: it takes part in no soft-max and wins no arg max."""


def semantic_instance_logits(
    semantic: jax.Array, boxes: jax.Array, classes: jax.Array, *, num_stuff: int, stride: int, top: int | jax.Array = 0
) -> jax.Array:
    """X_i: the semantic logits of an instance's class inside its box, 0 outside, `[B, N, h, w]`.

    Args:
        semantic: `[B, h, w, S + T]` semantic logits at 1 / `stride` of the image.
        boxes: `[B, N, 4]` half-open boxes in image pixels.
        classes: `[B, N]` thing classes.
        num_stuff: S.
        stride: image pixels per pixel of `semantic`.
        top: the row of the image's semantic logits that these ones begin with.
    """
    _, height, width, channels = semantic.shape
    one_hot = jax.nn.one_hot(classes, channels - num_stuff, dtype=semantic.dtype)
    own_class = jnp.einsum('bhwt,bnt->bnhw', semantic[..., num_stuff:], one_hot)
    return jnp.where(semantic_crop(boxes, (height, width), stride, top), own_class, 0.0)


def panoptic_logits(
    stuff: jax.Array, instances: jax.Array, valid: jax.Array, void: jax.Array | None = None
) -> jax.Array:
    """Z: stuff logits first, then instances, then the void channel.

    Args:
        stuff: `[B, h, w, S]` semantic logits of the stuff classes.
        instances: `[B, N, h, w]` Z_i.
        valid: `[B, N]` bool; the logits of empty slots become `ABSENT`.
        void: `[B, h, w]` of `void_logits`; None for no such channel.

    Returns:
        `[B, h, w, S + N]`, or `S + N + 1`.
    """
    instances = jnp.where(valid[:, :, None, None], instances, ABSENT)
    channels = [stuff, jnp.moveaxis(instances, 1, -1)]
    return jnp.concatenate(channels if void is None else [*channels, void[..., None]], axis=-1)


def void_logits(things: jax.Array, semantic: jax.Array, valid: jax.Array) -> jax.Array:
    """The logit of void (UPSNet, Xiong et al. 2019), `[..., h, w]`: a thing is there, but no instance of it.

    The highest semantic logit of any thing, less the highest that an instance has of it.

    Args:
        things: `[..., T, h, w]` semantic logits of the thing classes.
        semantic: `[..., N, h, w]` X.
        valid: `[..., N]` bool; where no instance is, the second term is 0.
    """
    best = jnp.max(jnp.where(valid[..., None, None], semantic, -jnp.inf), axis=-3)
    return jnp.max(things, axis=-3) - jnp.where(jnp.isfinite(best), best, 0.0)

"""Learning rate schedule and optimizer of the paper's Implementation Details."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sognet_jax.models.resnet import is_frozen


def learning_rate_schedule(
    base: float, *, warmup_steps: int, warmup_factor: float, drops: Sequence[int], drop_factor: float = 0.1
) -> optax.Schedule:
    """Linear warm-up from `warmup_factor * base`, then `drop_factor` at every step of `drops`.

    The update of step `drops[0]` (counted from 0) is the first with the lower rate.
    """

    def schedule(step: jax.Array | int) -> jax.Array:
        progress = jnp.where(step < warmup_steps, step / max(warmup_steps, 1), 1.0)
        warmup = warmup_factor + (1.0 - warmup_factor) * progress
        passed = sum(jnp.asarray(step >= drop, jnp.float32) for drop in drops)
        return base * warmup * drop_factor**passed

    return schedule


def parameter_labels(params: Any, frozen_stages: int) -> Any:
    """A tree like `params`: `'frozen'` for the backbone's frozen stages, `'trained'` for everything else."""

    def label(path: tuple[Any, ...], _: jax.Array) -> str:
        names = [entry.key for entry in path]
        return 'frozen' if names[0] == 'resnet' and is_frozen(names[1:], frozen_stages) else 'trained'

    return jax.tree_util.tree_map_with_path(label, params)


def decays(params: Any) -> Any:
    """Weight decay mask: kernels decay, biases and normalisation scales do not."""
    return jax.tree.map(lambda parameter: parameter.ndim > 1, params)


REFERENCE_BATCH = 8
"""The batch size that a config's learning rate is meant for; other batch sizes scale it in proportion."""


def build_optimizer(
    settings: Any, batch_size: int, frozen_stages: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """SGD with Nesterov momentum and weight decay on everything but the frozen stages.

    Args:
        settings: the config's `optimizer` section.
        batch_size: images per step over all devices.
        frozen_stages: see `ResNet`.
    """
    schedule = learning_rate_schedule(
        settings.learning_rate * batch_size / REFERENCE_BATCH,
        warmup_steps=settings.warmup_steps,
        warmup_factor=settings.warmup_factor,
        drops=settings.drops,
        drop_factor=settings.drop_factor,
    )
    steps = [
        optax.add_decayed_weights(settings.weight_decay, decays),
        optax.sgd(schedule, momentum=settings.momentum, nesterov=settings.nesterov),
    ]
    if settings.gradient_clip > 0:
        steps.insert(0, optax.clip_by_global_norm(settings.gradient_clip))
    transforms = {'trained': optax.chain(*steps), 'frozen': optax.set_to_zero()}
    return optax.partition(transforms, lambda params: parameter_labels(params, frozen_stages)), schedule

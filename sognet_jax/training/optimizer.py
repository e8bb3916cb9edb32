"""Learning rate schedule and optimizer of the paper's Implementation Details."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from sognet_jax.models.resnet import is_frozen
from sognet_jax.models.sognet import RELATION_HEAD


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


def parameter_labels(params: Any, frozen_stages: int, only: str | None = None) -> Any:
    """A tree like `params`: `'frozen'` for frozen stages, or for all parts but one that is named (`only`), `'relation'`
    for that head, `'trained'` elsewhere.

    The relation head reads annotations alone and shares no parameter with the rest. Clipped by a norm of its own, it
    neither diverges nor holds the rest back, whatever weight its loss has.
    """

    def label(path: tuple[Any, ...], _: jax.Array) -> str:
        names = [entry.key for entry in path]
        if only not in (None, names[0]):
            return 'frozen'
        if names[0] == RELATION_HEAD:
            return 'relation'
        return 'frozen' if names[0] == 'resnet' and is_frozen(names[1:], frozen_stages) else 'trained'

    return jax.tree_util.tree_map_with_path(label, params)


def decays(params: Any) -> Any:
    """Weight decay mask: kernels decay, biases and normalisation scales do not."""
    return jax.tree.map(lambda parameter: parameter.ndim > 1, params)


def biases(params: Any) -> Any:
    """Mask of the parameters that learn at `optimizer.bias_rate` times the rate: the leaves named `bias`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'bias', params)


class VelocityState(flax.struct.PyTreeNode):
    """State of `momentum_with_rate`: updates done so far, and the last update, a tree like the parameters."""

    count: jax.Array
    velocity: Any


def momentum_with_rate(
    schedule: optax.Schedule, momentum: float, *, drops: Sequence[int], drop_factor: float
) -> optax.GradientTransformation:
    """Momentum whose buffer holds the learning rate, the published SGD: v <- momentum v + rate g, p <- p - v.

    Past gradients keep the rate that they came with; so that they do not outlive a drop of the rate, v is multiplied by
    `drop_factor` before the update of every step in `drops`, the first with the lower rate.

    Args:
        schedule: learning rate of every step, counted from 0.
        momentum: share of v that stays.
        drops, drop_factor: as in `learning_rate_schedule`.
    """

    def start(params: Any) -> VelocityState:
        return VelocityState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params))

    def update(gradients: Any, state: VelocityState, params: Any = None) -> tuple[Any, VelocityState]:
        del params
        rate = schedule(state.count)
        kept = jnp.where(jnp.isin(state.count, jnp.array(drops, jnp.int32)), momentum * drop_factor, momentum)
        velocity = jax.tree.map(lambda v, gradient: kept * v + rate * gradient, state.velocity, gradients)
        return jax.tree.map(jnp.negative, velocity), VelocityState(optax.safe_increment(state.count), velocity)

    return optax.GradientTransformation(start, update)


def update_rule(settings: Any, schedule: optax.Schedule, gradient_clip: float) -> optax.GradientTransformation:
    """SGD with momentum and weight decay as the config's `optimizer` section wants it.

    Args:
        settings: the config's `optimizer` section. `momentum_holds_rate` and `bias_rate` = 2 are the published update;
            Nesterov momentum and `bias_rate` = 1 the paper's.
        schedule: learning rate of every step, counted from 0.
        gradient_clip: largest norm of the gradient; 0 is off.

    Raises:
        ValueError: the settings ask for Nesterov momentum and for `momentum_holds_rate`.
    """
    if settings.nesterov and settings.momentum_holds_rate:
        raise ValueError(
            'config fields optimizer.nesterov and optimizer.momentum_holds_rate cannot both be True: '
            'the published update has no Nesterov momentum'
        )
    steps = [optax.add_decayed_weights(settings.weight_decay, decays)]
    if gradient_clip > 0:
        steps.insert(0, optax.clip_by_global_norm(gradient_clip))
    if settings.bias_rate != 1:
        # A factor on the gradient is one on the rate: momentum is linear, and biases do not decay.
        steps.append(optax.masked(optax.scale(settings.bias_rate), biases))
    if settings.momentum_holds_rate:
        drops = {'drops': settings.drops, 'drop_factor': settings.drop_factor}
        steps.append(momentum_with_rate(schedule, settings.momentum, **drops))
    else:
        steps.append(optax.sgd(schedule, momentum=settings.momentum, nesterov=settings.nesterov))
    return optax.chain(*steps)


REFERENCE_BATCH = 8
"""The batch size that a config's learning rate is meant for; other batch sizes scale it in proportion."""


def build_optimizer(
    settings: Any, batch_size: int, frozen_stages: int, only: str | None = None
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of everything but the frozen stages, and its learning rate.

    Args:
        settings: the config's `optimizer` section.
        batch_size: images per step over all devices.
        frozen_stages: see `ResNet`.
        only: the one part that is trained, if not all are.

    Raises:
        ValueError: two fields of the section contradict each other.
    """
    schedule = learning_rate_schedule(
        settings.learning_rate * batch_size / REFERENCE_BATCH,
        warmup_steps=settings.warmup_steps,
        warmup_factor=settings.warmup_factor,
        drops=settings.drops,
        drop_factor=settings.drop_factor,
    )
    transforms = {
        'trained': update_rule(settings, schedule, settings.gradient_clip),
        'relation': update_rule(settings, schedule, settings.relation_clip),
        'frozen': optax.set_to_zero(),
    }
    return optax.partition(transforms, lambda params: parameter_labels(params, frozen_stages, only)), schedule

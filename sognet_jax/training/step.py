"""The training step of one device, and its pmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sognet_jax.models.sognet import SOGNet
from sognet_jax.training.objective import Batch, Counts, Losses, Objective, training_losses, weighted_sum

AXIS = 'batch'

Metrics = dict[str, jax.Array]

TrainingPass = Callable[[SOGNet, Batch, jax.Array, Objective], tuple[Losses, Counts]]


class TrainState(flax.struct.PyTreeNode):
    """Everything a training run needs to go on; the same on every device and never stacked.

    Attributes:
        step: number of updates done.
        params: trained and frozen parameters.
        batch_stats: frozen normalisation (empty with group norm).
        optimizer: the optimizer's state.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    optimizer: optax.OptState


def create_state(variables: dict[str, Any], optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update, from a network's variables, on all devices."""
    params = variables['params']
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get('batch_stats', {}),
        optimizer=optimizer.init(params),
    )
    # Placed as the step leaves it, so that the second step needs no second compilation.
    place = jax.pmap(lambda state, _: state, in_axes=(None, 0), out_axes=None)
    return place(state, np.zeros(jax.local_device_count()))


def device_step(
    state: TrainState,
    batch: Batch,
    *,
    network: SOGNet,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    seed: int,
    losses: TrainingPass = training_losses,
    axis: str | None = AXIS,
) -> tuple[TrainState, Metrics]:
    """One update from one device's part of the batch.

    Random choices depend on the seed, the step and the example alone, so that the number of devices does not change
    them; losses are means over images, so that averaging over devices gives the mean over the whole batch.

    Args:
        state: the state before.
        batch: `[B, ...]` examples of the data contract with their `example_index`.
        network, optimizer, objective, seed: what is trained, and how.
        losses: what is computed of a batch: `training_losses`, or `relation_training_loss`.
        axis: the mapped axis that gradients are averaged over; None for a single device without pmap.

    Returns:
        The state after, and every loss, their weighted `total`, the `gradient_norm`, and the counts of `count_pairs`
        over the whole batch.
    """
    step_key = jax.random.fold_in(jax.random.key(seed), state.step)
    keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(batch['example_index'])

    def total_loss(params: Any) -> tuple[jax.Array, tuple[Losses, Counts]]:
        variables = {'params': params, 'batch_stats': state.batch_stats}
        values, counts = nn.apply(losses, network)(variables, batch, keys, objective)
        return weighted_sum(values, objective.weights), (values, counts)

    (total, (values, counts)), gradients = jax.value_and_grad(total_loss, has_aux=True)(state.params)
    metrics = values | {'total': total}
    if axis is not None:
        gradients, metrics = jax.lax.pmean((gradients, metrics), axis)
        counts = jax.lax.psum(counts, axis)
    metrics |= {'gradient_norm': optax.tree.norm(gradients)} | counts
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, optimizer=optimizer_state), metrics


def parallel_step(**arguments: Any) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """`device_step` on all local devices: batches are `[devices, B, ...]`, the state is not stacked.

    Args:
        **arguments: the keyword arguments of `device_step`.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return device_step(state, batch, **arguments)

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=(0,))

"""The training step of one device, and its pmap."""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from sognet_jax import hosts
from sognet_jax.hosts import AXIS
from sognet_jax.models.sognet import SOGNet
from sognet_jax.training.objective import Batch, Counts, Losses, Objective, training_losses, weighted_sum

Metrics = dict[str, jax.Array]

TrainingPass = Callable[[SOGNet, Batch, jax.Array, Objective], tuple[Losses, Counts]]


class TrainState(flax.struct.PyTreeNode):
    """Everything a training run needs to go on; the same on every device and never stacked."""

    step: jax.Array  # number of updates done
    params: Any  # trained and frozen parameters
    batch_stats: Any  # frozen normalisation (empty with group norm)
    optimizer: optax.OptState  # the optimizer's state


def create_state(variables: dict[str, Any], optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update, from a network's variables, on all devices."""
    params = variables['params']
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get('batch_stats', {}),
        optimizer=optimizer.init(params),
    )
    return hosts.on_its_devices(state)


def device_step(
    state: TrainState,
    batch: Batch,
    *,
    network: SOGNet,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    seed: int,
    losses: TrainingPass = training_losses,
    accumulate: int = 1,
    axis: str | None = AXIS,
) -> tuple[TrainState, Metrics]:
    """One update from one device's part of the batch.

    Random choices depend on the seed, the step and the example alone, so that the number of devices does not change
    them; losses are means over images, so that averaging over devices gives the mean over the whole batch.

    Args:
        state: the state before.
        batch: `[B, ...]` examples of the data contract with their `example_index`.
        network, optimizer, objective, seed: what is trained, and how.
        losses: what is computed of a batch: `training_losses`, or what one head alone is trained with.
        accumulate: into so many parts the batch is cut, whose gradients are added up before the update: the same update
            with less memory.
        axis: the mapped axis that gradients are averaged over; None for a single device without pmap.

    Returns:
        The state after, and every loss, their weighted `total`, the `gradient_norm`, and the counts of `count_pairs`
        over the whole batch.
    """
    step_key = jax.random.fold_in(jax.random.key(seed), state.step)

    def total_loss(params: Any, part: Batch) -> tuple[jax.Array, tuple[Losses, Counts]]:
        keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(part['example_index'])
        variables = {'params': params, 'batch_stats': state.batch_stats}
        values, counts = nn.apply(losses, network)(variables, part, keys, objective)
        return weighted_sum(values, objective.weights), (values, counts)

    gradient = jax.value_and_grad(total_loss, has_aux=True)
    (total, (values, counts)), gradients = _over_parts(functools.partial(gradient, state.params), batch, accumulate)
    metrics = values | {'total': total}
    if axis is not None:
        gradients, metrics = jax.lax.pmean((gradients, metrics), axis)
        counts = jax.lax.psum(counts, axis)
    metrics |= {'gradient_norm': optax.tree.norm(gradients)} | counts
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, optimizer=optimizer_state), metrics


def _over_parts(function: Callable[[Batch], Any], batch: Batch, number: int) -> Any:
    """`function` of a batch, ((total, (means, sums)), means), from as many parts of it, one after the other."""
    if number == 1:
        return function(batch)
    parts = {name: value.reshape(number, -1, *value.shape[1:]) for name, value in batch.items()}
    shapes = jax.eval_shape(function, {name: value[0] for name, value in parts.items()})

    def add(sums: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(part)), None

    sums, _ = jax.lax.scan(add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), parts)
    (total, (values, counts)), gradients = sums
    total, values, gradients = jax.tree.map(lambda leaf: leaf / number, (total, values, gradients))
    return (total, (values, counts)), gradients


def parallel_step(**arguments: Any) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """`device_step` on all local devices: batches are `[devices, B, ...]`, the state is not stacked."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return device_step(state, batch, **arguments)

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=(0,))


def step_flops(step: Callable[..., Any], state: TrainState, batch: Any) -> float:
    """Floating-point operations of one step over all devices, as XLA counts them before it optimizes; 0 if it does not.

    What runs in loops is counted once, and what our GPU kernels do, not at all.
    """
    cost = cast(Any, step).lower(state, batch).cost_analysis() or {}
    return float(cost.get('flops', 0.0)) * jax.device_count()

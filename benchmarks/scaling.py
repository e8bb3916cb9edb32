"""How long a step takes on many devices, by a model: `python -m benchmarks.scaling`; docs/scaling.md explains it.

Nothing is timed. Counted are the operations of a step as XLA lists them (what runs in loops, once), the parameters that
are trained, and the bytes of an example; speeds are data sheets', and assumed is which part of them is reached.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.made_up_batch import random_batch
from sognet_jax.category_files import category_set
from sognet_jax.configs import coco_r50
from sognet_jax.models.sognet import build_network, variable_shapes
from sognet_jax.training.objective import build_objective
from sognet_jax.training.optimizer import build_optimizer, parameter_labels
from sognet_jax.training.step import TrainState, device_step


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device and its links; operations and bytes a second, as data sheets have them."""

    name: str
    operations: float
    in_host: float
    between_hosts: float
    per_host: int = 8


MACHINES = (
    Machine('H100, bf16, NVLink, 8 x 400 Gb/s a host', 989e12, 450e9, 400e9),
    Machine('H100, bf16, NVLink, 100 Gb/s a host', 989e12, 450e9, 12.5e9),
    Machine('H100, bf16, NVLink, 10 Gb/s a host', 989e12, 450e9, 1.25e9),
    Machine('A100, bf16, NVLink, 100 Gb/s a host', 312e12, 300e9, 12.5e9),
)
REACHED, LINK_REACHED = 0.15, 0.7
"""Assumed shares of a data sheet's speed: of operations, for many small maps and heads, and of links."""


def main():
    """Prints a table for each machine."""
    operations, trained, example = count()
    print(f'an image: {operations / 1e12:.2f} TFLOP, {example / 1e6:.1f} MB; gradients: {trained / 1e6:.1f} MB')
    for machine in MACHINES:
        compute = operations / (machine.operations * REACHED)
        print(f'\n{machine.name}\n| devices | batch | compute | all-reduce | step | images/s | efficiency |')
        for devices in (8, 64, 256):
            reduce = all_reduce_seconds(machine, devices, trained)
            step = compute + reduce
            print(
                f'| {devices} | {devices} | {1e3 * compute:.0f} ms | {1e3 * reduce:.1f} ms | {1e3 * step:.0f} ms | '
                f'{devices / step:.0f} | {100 * compute / step:.0f} % |'
            )


def all_reduce_seconds(machine, devices, size):
    """Rings inside the hosts and, with what each device holds then, between them; nothing hidden behind computing."""
    inside, hosts = min(devices, machine.per_host), max(devices // machine.per_host, 1)
    seconds = 2 * (inside - 1) / inside * size / (machine.in_host * LINK_REACHED)
    return seconds + 2 * (hosts - 1) / hosts * size / (machine.between_hosts * LINK_REACHED)


def count():
    """Operations of a training step on one image of 800 x 1344, bytes of its gradients, bytes of the example."""
    config = coco_r50.get_config()
    config.batch_size = 1
    network = build_network(config.model, category_set(config.categories))
    variables, frozen = variable_shapes(network), config.model.backbone.frozen_stages
    optimizer, _ = build_optimizer(config.optimizer, 1, frozen)
    state = TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        params=variables['params'],
        batch_stats=variables.get('batch_stats', {}),
        optimizer=jax.eval_shape(optimizer.init, variables['params']),
    )
    batch = {
        name: jax.ShapeDtypeStruct(np.shape(value), np.asarray(value).dtype)
        for name, value in random_batch(config).items()
    }
    objective = build_objective(config.objective)
    step = functools.partial(device_step, network=network, optimizer=optimizer, objective=objective, seed=0, axis=None)
    labels = jax.tree.leaves(parameter_labels(variables['params'], frozen))
    trained = sum(
        4 * leaf.size
        for leaf, label in zip(jax.tree.leaves(variables['params']), labels, strict=True)
        if label != 'frozen'
    )
    example = sum(value.size * value.dtype.itemsize for value in batch.values())
    return jax.jit(step).lower(state, batch).cost_analysis()['flops'], trained, example


if __name__ == '__main__':
    main()

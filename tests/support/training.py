"""One training step of a tiny network."""

import jax

from sognet_jax.training.run import build_run


def to_devices(batch, devices):
    return {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in batch.items()}


def first_step(config, devices=1):
    """The state before training, and a function from a batch to state and metrics after one step: compiled once.

    One step, because a second one would amplify the rounding of another order of sums.
    """
    run = build_run(config)
    before = jax.device_get(run.state)
    return before, lambda batch: jax.device_get(run.step(before, to_devices(batch, devices)))

"""Batches for the devices of this host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from sognet_jax.data import pipeline
from sognet_jax.data.configured import example_settings, training_source
from sognet_jax.data.transforms import Example


class TrainBatches(Iterator[Example]):
    """Training batches of this host, `[local devices, B, ...]`, with each example's place in the global batch.

    Args:
        config: an experiment.

    Raises:
        ValueError: `batch_size` cannot be divided by the number of devices.
    """

    def __init__(self, config: ml_collections.ConfigDict) -> None:
        devices = jax.device_count()
        if config.batch_size % devices:
            raise ValueError(f'config field batch_size = {config.batch_size} cannot be divided by {devices} devices')
        host_batch = config.batch_size // jax.process_count()
        self._index = jax.process_index() * host_batch + np.arange(host_batch, dtype=np.int32)
        self.iterator = pipeline.train_iterator(
            training_source(config),
            example_settings(config),
            batch_size=host_batch,
            flip=config.data.flip,
            seed=config.seed,
            host=jax.process_index(),
            num_hosts=jax.process_count(),
        )

    def __next__(self) -> dict[str, Any]:
        batch = next(self.iterator) | {'example_index': self._index}
        devices = jax.local_device_count()
        return {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in batch.items()}

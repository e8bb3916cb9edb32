"""Batches for the devices of this host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from sognet_jax.data.configured import augmentation, example_settings, training_source
from sognet_jax.data.examples import pipeline


class TrainBatches(Iterator[dict[str, Any]]):
    """Training batches of this host, `[local devices, B, ...]`, with each example's place in the global batch.

    A batch is a function of the config's seed and the step, so that a run that is resumed, on whatever hosts and with
    whatever workers, gets the batches that it would have had.

    Args:
        config: an experiment.
        first_step: how many steps have been done.

    Raises:
        ValueError: `batch_size` cannot be divided by the number of devices, a field of `data` cannot be used, or
            relations are trained without data for them.
        AnnotationError: the data are missing or broken.
    """

    def __init__(self, config: ml_collections.ConfigDict, first_step: int = 0) -> None:
        devices, hosts, host = jax.device_count(), jax.process_count(), jax.process_index()
        if config.batch_size % devices:
            raise ValueError(f'config field batch_size = {config.batch_size} cannot be divided by {devices} devices')
        host_batch = config.batch_size // hosts
        if config.objective.weights.relation and not config.data.relations:
            raise ValueError(
                'config field objective.weights.relation must be 0 where data.relations is False: '
                'it is not known which instances overlap'
            )
        self._index = host * host_batch + np.arange(host_batch, dtype=np.int32)
        dataset = pipeline.train_dataset(
            training_source(config),
            example_settings(config),
            batch_size=config.batch_size,
            seed=config.seed,
            augmentation=augmentation(config),
            host=host,
            num_hosts=hosts,
            pixels=not config.train.only,
        )
        self._iterator = pipeline.iterate(dataset, first_step, config.data.workers)

    def __next__(self) -> dict[str, Any]:
        batch = next(self._iterator) | {'example_index': self._index}
        devices = jax.local_device_count()
        return {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in batch.items()}

    def close(self) -> None:
        """Ends the threads or processes that make batches."""
        self._iterator.close()

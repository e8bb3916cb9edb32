"""Batches for the devices of this host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from sognet_jax import hosts
from sognet_jax.data.configured import augmentation, example_settings, training_source
from sognet_jax.data.examples import pipeline
from sognet_jax.data.records.storage import CorruptRecordError

MOST_FAILURES = 3
"""Workers that die so often in a row do not die by accident."""


class TrainBatches(Iterator[dict[str, Any]]):
    """Training batches of this host, `[local devices, B, ...]`, with each example's place in the global batch.

    A batch is a function of the config's seed and the step, so that a run that is resumed, on whatever hosts and with
    whatever workers, gets the batches that it would have had. That is also how workers that were killed are replaced.

    Args:
        config: an experiment.
        first_step: how many steps have been done.
        say: is told of workers that are replaced and of records that are left out (`data.skip_corrupt`).

    Attributes:
        left_out: places of the corrupt records that other images stand for.

    Raises:
        ValueError: `batch_size` cannot be divided by the number of devices, a field of `data` cannot be used, or
            relations are trained without data for them.
        AnnotationError: the data are missing or broken.
    """

    def __init__(
        self, config: ml_collections.ConfigDict, first_step: int = 0, say: Callable[[str], None] = lambda line: None
    ) -> None:
        devices, host = jax.device_count(), jax.process_index()
        parts = devices * config.optimizer.accumulate
        if config.batch_size % parts:
            accumulated = f' that accumulate {config.optimizer.accumulate} parts' if parts > devices else ''
            raise ValueError(
                f'config field batch_size = {config.batch_size} cannot be divided by {devices} devices{accumulated}'
            )
        host_batch = config.batch_size // hosts.count()
        if config.objective.weights.relation and not config.data.relations:
            raise ValueError(
                'config field objective.weights.relation must be 0 where data.relations is False: '
                'it is not known which instances overlap'
            )
        self.left_out: set[str] = set()
        self._say, self._workers, self._step = say, config.data.workers, first_step
        self._index = host * host_batch + np.arange(host_batch, dtype=np.int32)
        self._source = hosts.first_alone_then_all(lambda: training_source(config))
        self._dataset = pipeline.train_dataset(
            self._source,
            example_settings(config),
            batch_size=config.batch_size,
            seed=config.seed,
            augmentation=augmentation(config),
            host=host,
            num_hosts=hosts.count(),
            pixels=not config.train.only,
            skip_corrupt=config.data.skip_corrupt,
        )
        self._iterator = pipeline.iterate(self._dataset, first_step, self._workers)

    def __next__(self) -> dict[str, Any]:
        batch = self._next() | {'example_index': self._index}
        self._step += 1
        for index in batch.pop(pipeline.LEFT_OUT, ()):
            self._leave_out(int(index))
        devices = jax.local_device_count()
        return {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in batch.items()}

    def close(self) -> None:
        """Ends the threads or processes that make batches."""
        self._iterator.close()

    def _next(self) -> dict[str, Any]:
        for _ in range(MOST_FAILURES):
            try:
                return next(self._iterator)
            except CorruptRecordError as error:
                raise CorruptRecordError(f'{error} (data.skip_corrupt = True trains without it)') from error
            except RuntimeError as error:
                if 'Worker process was terminated' not in str(error):
                    raise
                self._say(f'WARNING: a process that makes batches has been killed; all {self._workers} start anew')
                self.close()
                self._iterator = pipeline.iterate(self._dataset, self._step, self._workers)
        raise ChildProcessError(
            f'the processes that make batches are killed again and again at step {self._step + 1}: is there too little '
            'memory? (config field data.workers; 0 is none)'
        )

    def _leave_out(self, index: int) -> None:
        if index < 0 or self._source.place(index) in self.left_out:
            return
        self.left_out.add(self._source.place(index))
        self._say(f'WARNING: {self._source.place(index)} is corrupt and left out, the {len(self.left_out)}. so far')

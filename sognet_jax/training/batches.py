"""Batches for the devices of this host."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from sognet_jax import hosts
from sognet_jax.data.configured import augmentation, example_settings, training_source
from sognet_jax.data.examples import pipeline
from sognet_jax.data.records.storage import CorruptRecordError


class TrainBatches(Iterator[dict[str, Any]]):
    """Training batches of this host, `[local devices, B, ...]`, with each example's place in the global batch.

    A batch is a function of the config's seed and the step, so that a run that is resumed, on whatever hosts and with
    whatever workers, gets the batches that it would have had. That is also how workers that were killed are replaced.

    Args:
        config: an experiment.
        first_step: how many steps have been done.
        say: is told of workers that are replaced and of records that are left out (`data.skip_corrupt`).

    Raises:
        ValueError: `batch_size` cannot be divided by the number of devices, a field of `data` cannot be used,
            relations are trained without data for them, or hosts have different numbers of devices or other data.
        InputError: the data are missing or broken.
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
        hosts.require_same('the number of devices', jax.local_device_count())
        host_batch = config.batch_size // hosts.count()
        if (config.objective.weights.relation or config.model.occlusion.width) and not config.data.relations:
            raise ValueError(
                'config fields objective.weights.relation and model.occlusion.width must be 0 where data.relations is '
                'False: it is not known which instances overlap'
            )
        self.left_out: set[str] = set()  # places of the corrupt records that other images stand for
        self._say = say
        self._index = host * host_batch + np.arange(host_batch, dtype=np.int32)
        self._source = hosts.first_alone_then_all(lambda: training_source(config))
        hosts.require_same('the training data', zlib.crc32(self._source.sizes.tobytes()))
        dataset = pipeline.train_dataset(
            self._source, example_settings(config), batch_size=config.batch_size, seed=config.seed,
            augmentation=augmentation(config), host=host, num_hosts=hosts.count(),
            pixels=config.train.only != 'relation', skip_corrupt=config.data.skip_corrupt,
        )  # fmt: skip
        self._stream = pipeline.Stream(dataset, first_step, config.data.workers, say)

    def __next__(self) -> dict[str, Any]:
        try:
            batch = next(self._stream) | {'example_index': self._index}
        except CorruptRecordError as error:
            raise CorruptRecordError(f'{error} (data.skip_corrupt = True trains without it)') from error
        for index in batch.pop(pipeline.LEFT_OUT, ()):
            self._leave_out(int(index))
        devices = jax.local_device_count()
        return {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in batch.items()}

    def close(self) -> None:
        """Ends the threads or processes that make batches."""
        self._stream.close()

    def _leave_out(self, index: int) -> None:
        if index < 0 or self._source.place(index) in self.left_out:
            return
        self.left_out.add(self._source.place(index))
        self._say(f'WARNING: {self._source.place(index)} is corrupt and left out, the {len(self.left_out)}. so far')

"""Streams of batches: grain, each batch a function of the seed and its number, whoever makes it.

Images come in two buckets, landscape and portrait (`transforms.oriented`), so that a batch wastes little padding and
two compiled programs serve all of them. A batch has images of one orientation, the same on all hosts.
"""

import contextlib
import dataclasses
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, cast

import grain
import numpy as np
from tqdm import tqdm

from sognet_jax.contract import FILLER, Example, map_arrays
from sognet_jax.data.examples.transforms import ExampleSettings, make_example, oriented
from sognet_jax.data.records.storage import CorruptRecordError, Records
from sognet_jax.files import first_line

ENDLESS = 1 << 40
"""More steps, and more epochs, than anybody trains; grain's own endless repetition overflows."""

LEFT_OUT = 'left_out'
"""Key of a batch: `[B]` index of the corrupt record whose place another image took, -1 for none."""

MOST_LEFT_OUT = 20
"""So many corrupt records one after the other are no accident."""

MOST_FAILURES = 3
"""Processes that die so often in a row do not die by accident."""


class SizedSource(Records, Protocol):
    """Records, the `[n, 2]` heights and widths of their images, and where each lies, for messages."""

    sizes: np.ndarray

    def place(self, index: int) -> str:
        """Where a record lies."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is random about training examples: with `flip`, half of the images are mirrored; `short_sides` are the least
    and greatest length that the shorter side is resized to (None: `ExampleSettings.short_side`).
    """

    flip: bool = False
    short_sides: tuple[int, int] | None = None


class BatchPlan:
    """Which images the batch of each training step has, of those of each orientation (see `orientations`).

    Either orientation has its own endless sequence, in which every epoch has each image once, in a new order. Steps of
    both alternate evenly, in proportion to their images.
    """

    def __init__(self, buckets: Sequence[np.ndarray], batch_size: int, seed: int) -> None:
        self._batch_size = batch_size
        self._buckets = buckets
        self._counts = [len(bucket) for bucket in buckets]
        self._orders = [
            grain.MapDataset.source(bucket).seed(seed + number).shuffle().repeat(ENDLESS // len(bucket))
            for number, bucket in enumerate(buckets)
        ]

    def __call__(self, step: int) -> np.ndarray:
        """`[batch_size]` indices of images of one orientation."""
        first, total = self._counts[0], sum(self._counts)
        before = (step * first + total - 1) // total  # steps of the first orientation among those before this one
        is_first = ((step + 1) * first + total - 1) // total > before
        order, number = (self._orders[0], before) if is_first else (self._orders[1], step - before)
        return np.array([order[number * self._batch_size + row] for row in range(self._batch_size)])

    def after(self, index: int) -> int:
        """The next image of the same orientation, which takes the place of one that cannot be read."""
        bucket = next(bucket for bucket in self._buckets if index in bucket)
        return int(bucket[(np.searchsorted(bucket, index) + 1) % len(bucket)])


def orientations(sizes: np.ndarray, settings: ExampleSettings) -> list[np.ndarray]:
    """Indices of the images of `[n, 2]` sizes by the bucket that suits them; no empty ones."""
    buckets: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        buckets.setdefault(oriented(settings, tuple(size)).image_size, []).append(index)
    return [np.array(buckets[image_size]) for image_size in sorted(buckets)]


def train_dataset(
    source: SizedSource,
    settings: ExampleSettings,
    *,
    batch_size: int,
    seed: int,
    augmentation: Augmentation | None = None,
    host: int = 0,
    num_hosts: int = 1,
    pixels: bool = True,
    skip_corrupt: bool = False,
) -> grain.MapDataset:
    """Batches of all steps, by their number.

    Args:
        batch_size: images of a step, over all hosts.
        host, num_hosts: this host makes its part of each batch; together they make what one would.
        pixels: of `make_example`.
        skip_corrupt: the next image takes the place of one that cannot be read, and `LEFT_OUT` is in the batch.

    Returns:
        Element t is the batch of step t, `[batch_size / num_hosts, ...]` arrays. Where a record is corrupt, making it
        raises `CorruptRecordError`.

    Raises:
        ValueError: there are no images, or `batch_size` cannot be divided by the hosts.
    """
    if not len(source):
        raise ValueError('there are no training images')
    if batch_size % num_hosts:
        raise ValueError(f'batch_size = {batch_size} cannot be divided by {num_hosts} hosts')
    augmentation = augmentation or Augmentation()
    plan = BatchPlan(orientations(source.sizes, settings), batch_size, seed)
    low, high = augmentation.short_sides or (settings.short_side, settings.short_side)
    rows = range(host * batch_size // num_hosts, (host + 1) * batch_size // num_hosts)

    def make_batch(step: int) -> Example:
        # Drawn for the whole batch, so that the number of hosts changes nothing.
        rng = np.random.default_rng([seed, step])
        flips = augmentation.flip & rng.integers(2, size=batch_size).astype(bool)
        short_sides = rng.integers(low, high, size=batch_size, endpoint=True)
        indices = plan(step)

        def make(index: int, row: int) -> Example:
            options = {'flip': bool(flips[row]), 'short_side': int(short_sides[row]), 'pixels': pixels}
            return _example(source, index, settings, **options)

        if not skip_corrupt:
            return _stack([make(int(indices[row]), row) for row in rows])
        examples, left_out = zip(*(_first_whole(make, plan, int(indices[row]), row) for row in rows), strict=True)
        return cast(Example, _stack(list(examples)) | {LEFT_OUT: np.array(left_out)})

    return grain.MapDataset.range(ENDLESS).map(make_batch)


class Stream(Iterator[Example]):
    """The batches from a number on, made ahead of time. Where the processes that make them are killed, others go on.

    Args:
        first: where to start; that is how a stream is resumed.
        workers: processes that make batches; 0: threads of this process.
        say: is told of processes that are replaced.
    """

    def __init__(
        self, dataset: grain.MapDataset, first: int = 0, workers: int = 0, say: Callable[[str], None] | None = None
    ) -> None:
        self._dataset, self._number, self._workers = dataset, first, workers
        self._say = say or (lambda line: tqdm.write(line, file=sys.stderr))
        self._iterator = self._iterate()

    def __next__(self) -> Example:
        for _ in range(MOST_FAILURES):
            try:
                batch = next(self._iterator)
            except RuntimeError as error:
                if 'Worker process was terminated' not in str(error):
                    raise
                self._say(f'WARNING: a process that makes batches has been killed; all {self._workers} start anew')
                self.close()
                self._iterator = self._iterate()
            else:
                self._number += 1
                return batch
        raise ChildProcessError(
            f'the processes that make batches are killed again and again at batch {self._number + 1}: is there too '
            'little memory? (config field data.workers; 0 is none)'
        )

    def close(self) -> None:
        """Ends the threads or processes that make batches."""
        self._iterator.close()

    def _iterate(self) -> grain.DatasetIterator:
        threads = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)
        left = self._dataset[self._number :]
        if not self._workers:
            return iter(left.to_iter_dataset(threads))
        one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
        return iter(left.to_iter_dataset(one).mp_prefetch(options, functools.partial(_begin, os.getpid())))


def _begin(parent: int, worker: int, workers: int) -> None:
    """What a worker does first: it leaves Ctrl-C to its parent, and sees to it that it does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def evaluation_batches(
    source: SizedSource,
    settings: ExampleSettings,
    batch_size: int,
    *,
    host: int = 0,
    num_hosts: int = 1,
    workers: int = 0,
    pixels: bool = True,
) -> Generator[Example, None, None]:
    """Every image once over all hosts; `record_index` says which, `FILLER` marks copies that fill a last batch.

    Every host has the same number of batches, of the same shapes, at most two (`transforms.oriented`), with
    `batch_size` images each. Workers are those of `Stream`, `pixels` is that of `make_example`.
    """
    whole = batch_size * num_hosts
    batches = []
    for bucket in orientations(source.sizes, settings):
        padded = np.concatenate([bucket, np.full(-len(bucket) % whole, FILLER)]).reshape(-1, num_hosts, batch_size)
        # What fills a batch is a copy of its orientation's last image.
        batches += [(rows, np.where(rows == FILLER, bucket[-1], rows)) for rows in padded[:, host]]

    def make_batch(number: int) -> Example:
        record_index, indices = batches[number]
        examples = {index: _example(source, int(index), settings, pixels=pixels) for index in set(indices)}
        return _stack([examples[index] for index in indices]) | {'record_index': record_index.astype(np.int32)}

    with contextlib.closing(Stream(grain.MapDataset.range(len(batches)).map(make_batch), workers=workers)) as stream:
        yield from stream


def _example(source: SizedSource, index: int, settings: ExampleSettings, **options: Any) -> Example:
    """An example of a record; what is wrong is a `CorruptRecordError` that names it."""
    try:
        return make_example(source[index], settings, either_orientation=True, **options)
    except CorruptRecordError:
        raise
    except Exception as error:  # what is stored is checked before; whatever is wrong with it now came later
        raise CorruptRecordError(f'{source.place(index)} cannot be used: {first_line(error)}') from error


def _first_whole(make: Callable[[int, int], Example], plan: BatchPlan, index: int, row: int) -> tuple[Example, int]:
    """The example of an image or, where that is corrupt, of the first whole one after it; and the corrupt one."""
    candidate, left_out = index, -1
    for _ in range(MOST_LEFT_OUT):
        try:
            return make(candidate, row), left_out
        except CorruptRecordError:
            left_out, candidate = index, plan.after(candidate)
    return make(candidate, row), left_out


def _stack(examples: list[Example]) -> Example:
    return map_arrays(lambda *rows: np.stack(rows), *examples)

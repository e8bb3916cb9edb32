"""Streams of examples: grain, deterministic by seed and step, checkpointable."""

from __future__ import annotations

from collections.abc import Iterator

import grain
import jax
import numpy as np

from sognet_jax.data.storage import RecordSource
from sognet_jax.data.transforms import Example, ExampleSettings, make_example

EPOCHS = 1 << 30
"""For ever: the length of grain's own endless repetition overflows where a batch has one example."""

READ = grain.ReadOptions(num_threads=4, prefetch_buffer_size=32)


def train_iterator(
    source: RecordSource,
    settings: ExampleSettings,
    *,
    batch_size: int,
    flip: bool,
    seed: int,
    host: int = 0,
    num_hosts: int = 1,
) -> grain.DatasetIterator:
    """An endless stream of batches of one host, shuffled anew in every epoch.

    The stream depends on the seed alone; `get_state` and `set_state` resume it exactly.

    Args:
        source: the training split.
        settings: sizes of the examples.
        batch_size: examples per batch on this host.
        flip: mirror half of the images.
        seed: of the order and of the mirroring.
        host, num_hosts: this host's share.

    Returns:
        An iterator of `[batch_size, ...]` arrays.

    Raises:
        ValueError: the split has fewer images than there are hosts.
    """
    if len(source) < num_hosts:
        raise ValueError(f'{len(source)} training images cannot be shared by {num_hosts} hosts')

    def transform(record: object, rng: np.random.Generator) -> Example:
        return make_example(record, settings, flip=flip and bool(rng.integers(2)))

    dataset = grain.MapDataset.source(source).seed(seed).shuffle()[host::num_hosts].repeat(EPOCHS)
    dataset = dataset.random_map(transform).batch(batch_size)
    return iter(dataset.to_iter_dataset(READ))


def evaluation_batches(source: RecordSource, settings: ExampleSettings, batch_size: int) -> Iterator[Example]:
    """Every image once; `record_index` says which, -1 marks copies that fill a last batch.

    A batch has images of one orientation, in order, so that there are at most two shapes (`transforms.oriented`).
    """

    def transform(index: int) -> Example:
        return make_example(source[index], settings, either_orientation=True) | {'record_index': np.int32(index)}

    examples = iter(grain.MapDataset.range(len(source)).map(transform).to_iter_dataset(READ))
    pending: dict[tuple[int, ...], list[Example]] = {}
    for example in examples:
        batch = pending.setdefault(example['image'].shape, [])
        batch.append(example)
        if len(batch) == batch_size:
            yield _stack(pending.pop(example['image'].shape))
    for batch in pending.values():
        filler = batch[-1] | {'record_index': np.int32(-1)}
        yield _stack(batch + [filler] * (batch_size - len(batch)))


def _stack(examples: list[Example]) -> Example:
    return jax.tree.map(lambda *values: np.stack(values), *examples)

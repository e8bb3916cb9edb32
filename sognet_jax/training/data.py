"""The data of a config: which builder prepares it, and its streams."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from sognet_jax.categories import category_set
from sognet_jax.data import pipeline
from sognet_jax.data.coco import builder as coco
from sognet_jax.data.coco.annotations import annotation_files
from sognet_jax.data.shapes import builder as shapes
from sognet_jax.data.shapes.scene import SceneSettings
from sognet_jax.data.storage import RecordSource
from sognet_jax.data.transforms import Example, ExampleSettings


def prepare_split(config: ml_collections.ConfigDict, split: str) -> RecordSource:
    """The records of a split; the data set is prepared first where that has not been done.

    Args:
        config: an experiment.
        split: a split of its data.

    Raises:
        ValueError: `data.name` is unknown, or `data.source` is missing or no such folder.
    """
    data = config.data
    if data.name == 'shapes':
        scene = SceneSettings(size=tuple(data.image_size), max_instances=data.max_instances)
        settings = shapes.ShapesSettings(scene, data.num_train, data.num_validation, data.seed)
        return RecordSource(shapes.prepare(data.dir, settings), split)
    if data.name == 'coco':
        return RecordSource(coco.prepare(data.source, data.dir, split), split)
    raise ValueError(f"config field data.name must be 'shapes' or 'coco', not {data.name!r}")


def has_annotations(config: ml_collections.ConfigDict, split: str) -> bool:
    """Whether the data of a config has a split's images and annotations: drawn scenes always have."""
    data, source = config.data, pathlib.Path(config.data.get('source', ''))
    if data.name != 'coco':
        return True
    return (source / split).is_dir() and any(file.is_file() for file in annotation_files(source, split))


def example_settings(config: ml_collections.ConfigDict) -> ExampleSettings:
    """How the examples of a config are made."""
    data = config.data
    return ExampleSettings(
        image_size=tuple(data.image_size),
        short_side=data.short_side,
        long_side=data.long_side,
        max_instances=data.max_instances,
        num_stuff=category_set(config.categories).num_stuff,
        inclusive_boxes=data.inclusive_boxes,
    )


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
            prepare_split(config, config.data.train_split),
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

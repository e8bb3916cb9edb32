"""The `shapes` data set as a tfds builder: drawn on the spot, seeded, the same on every machine."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from sognet_jax.categories import SHAPES
from sognet_jax.data.records import storage
from sognet_jax.data.records.schema import Record
from sognet_jax.data.sources.shapes.composition import SceneSettings, draw_scene
from sognet_jax.processes import in_order

WORTH_PROCESSES = 1000
"""Scenes from which on several processes draw: it takes each two seconds to start."""


@dataclasses.dataclass(frozen=True)
class ShapesSettings:
    """What is drawn."""

    scene: SceneSettings = SceneSettings()
    num_train: int = 4000
    num_validation: int = 200
    seed: int = 0


def prepare(data_dir: str | pathlib.Path, settings: ShapesSettings) -> pathlib.Path:
    """Draws and stores the data set unless a copy with these settings is there already; returns its folder."""
    fingerprint = hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
    height, width = settings.scene.size
    counts = {'train': settings.num_train, 'validation': settings.num_validation}
    folder = storage.prepared_folder(SHAPES.name, data_dir, f'{height}x{width}_{settings.num_train}_{fingerprint}')
    with storage.alone(folder) as is_there:
        if not is_there:
            splits = {
                name: _scenes(settings, number, name, count) for number, (name, count) in enumerate(counts.items())
            }
            text = f'Drawn scenes of overlapping things: {settings}'
            storage.write_records(folder, splits=splits, categories=SHAPES, description=text)
    return folder


def _scenes(settings: ShapesSettings, split: int, name: str, count: int) -> Iterator[Record]:
    workers = os.cpu_count() or 1 if count >= WORTH_PROCESSES else 1
    with contextlib.closing(in_order(functools.partial(draw, settings, split), range(count), workers)) as scenes:
        yield from tqdm(scenes, desc=f'draw {name}', unit='scene', total=count)


def draw(settings: ShapesSettings, split: int, index: int) -> Record:
    """Scene `index` of split 0 (train) or 1 (validation); its image id is unique over both."""
    rng = np.random.Generator(np.random.PCG64([settings.seed, split, index]))
    return draw_scene(rng, settings.scene, image_id=split * 10_000_000 + index)

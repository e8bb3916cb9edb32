"""Cityscapes as a tfds builder over local files."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Sequence

from sognet_jax.categories import CITYSCAPES
from sognet_jax.data.records.storage import RecordBuilder
from sognet_jax.data.sources.cityscapes.annotations import examine
from sognet_jax.data.sources.cityscapes.files import WITHOUT_ANNOTATIONS, ImageTask, image_tasks, require_split
from sognet_jax.data.sources.preparation import Preparation
from sognet_jax.data.sources.problems import Problem


class Cityscapes(RecordBuilder):
    """Builder of one split of Cityscapes."""

    name = 'cityscapes'


def preparation(source: str | pathlib.Path, split: str, *, relations: bool = True) -> Preparation:
    """How a split of a folder in Cityscapes' layout (see `files`) is prepared.

    Args:
        source: the folder.
        split: `train`, `val`, or `test`, which has images alone.
        relations: find out which instances overlap, from the polygons of `gtFine`.
    """
    source = pathlib.Path(source)
    relations = relations and split != WITHOUT_ANNOTATIONS
    tasks = image_tasks(source, split, relations=relations)

    def read() -> tuple[Sequence[ImageTask], list[Problem]]:
        require_split(source, split, tasks)
        return tasks, []

    overlaps = 'with overlap relations from the polygons of gtFine' if relations else 'without overlap relations'
    return Preparation(
        builder=Cityscapes,
        copy=f'{split}_{_fingerprint(source, tasks)}',
        split=split,
        categories=CITYSCAPES,
        description=f'{split} of {source}, {overlaps}',
        read=read,
        examine=examine,
    )


def _fingerprint(source: pathlib.Path, tasks: Sequence[ImageTask]) -> str:
    """Of the files that are read, polygons only where relations are asked for."""
    stamp = [str(source.resolve())]
    for file in (file for task in tasks for file in task.files()):
        state = file.stat() if file.is_file() else None
        stamp.append(f'{file.name} {state.st_size} {state.st_mtime_ns}' if state else f'{file.name} none')
    return hashlib.sha256(' '.join(stamp).encode()).hexdigest()[:8]

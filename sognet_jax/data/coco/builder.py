"""COCO panoptic as a tfds builder over local files in the official layout."""

from __future__ import annotations

import hashlib
import pathlib

from sognet_jax.data import storage
from sognet_jax.data.coco.annotations import annotation_files, make_record, read_split


class Coco(storage.RecordBuilder):
    """Builder of one split of a COCO data set."""

    name = 'coco'


def prepare(source: str | pathlib.Path, data_dir: str | pathlib.Path, split: str) -> pathlib.Path:
    """Stores a split with its overlap relations unless that has been done already; returns its folder.

    Args:
        source: folder in the official layout (see `annotations`).
        data_dir: where prepared data sets live.
        split: for example `val2017`.

    Raises:
        AnnotationError: the annotations or images are broken; nothing is stored.
    """
    source = pathlib.Path(source)
    stamp = [str(source.resolve())]
    for path in annotation_files(source, split):
        stamp.append(f'{path.stat().st_size} {path.stat().st_mtime_ns}' if path.is_file() else 'none')
    fingerprint = hashlib.sha256(' '.join(stamp).encode()).hexdigest()[:8]
    return storage.prepare(
        Coco,
        data_dir,
        f'{split}_{fingerprint}',
        make_splits=lambda: _splits(source, split),
        description=f'COCO {split}, with overlap relations from instance and panoptic annotation',
    )


def _splits(source: pathlib.Path, split: str) -> dict[str, storage.Split]:
    content = read_split(source, split)
    return {split: (len(content.images), lambda index: make_record(content, index))}

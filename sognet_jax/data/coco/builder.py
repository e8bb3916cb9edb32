"""COCO panoptic as a tfds builder over local files in the official layout."""

from __future__ import annotations

import hashlib
import pathlib

from sognet_jax.data import storage
from sognet_jax.data.coco.annotations import make_record, read_split


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
    content = read_split(source, split)
    stamp = [str(content.source.resolve())]
    for path in (content.instances_file, content.panoptic_file):
        stamp.append(f'{path.stat().st_size} {path.stat().st_mtime_ns}' if path.is_file() else 'none')
    fingerprint = hashlib.sha256(' '.join(stamp).encode()).hexdigest()[:8]
    return storage.prepare(
        Coco,
        data_dir,
        f'{split}_{fingerprint}',
        splits={split: (len(content.images), lambda index: make_record(content, index))},
        description=f'COCO {split}, with overlap relations from instance and panoptic annotation',
    )

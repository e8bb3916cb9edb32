"""COCO panoptic, and other data in its layout, as tfds builders over local files."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Sequence

from sognet_jax.categories import COCO, CategorySet
from sognet_jax.category_files import categories_to_json
from sognet_jax.data.records.storage import RecordBuilder
from sognet_jax.data.sources.coco.annotations import ImageTask, examine, image_tasks
from sognet_jax.data.sources.coco.files import annotation_files, read_split
from sognet_jax.data.sources.preparation import Preparation
from sognet_jax.data.sources.problems import Problem


class Coco(RecordBuilder):
    """Builder of one split of COCO."""

    name = 'coco'


class CocoFormat(RecordBuilder):
    """Builder of one split of other data in COCO's layout, with categories of their own."""

    name = 'coco_format'


def preparation(source: str | pathlib.Path, split: str, categories: CategorySet = COCO) -> Preparation:
    """How a split of a folder in COCO's layout (see `files`) is prepared.

    Args:
        source: the folder.
        split: for example `val2017`.
        categories: COCO's, or those of the data.
    """
    source = pathlib.Path(source)

    def read() -> tuple[Sequence[ImageTask], list[Problem]]:
        content = read_split(source, split, categories)
        return image_tasks(content, categories), content.problems

    stamp = [str(source.resolve())]
    for path in annotation_files(source, split).values():
        stamp.append(f'{path.stat().st_size} {path.stat().st_mtime_ns}' if path.is_file() else 'none')
    if categories is not COCO:
        stamp.append(json.dumps(categories_to_json(categories)))
    fingerprint = hashlib.sha256(' '.join(stamp).encode()).hexdigest()[:8]
    return Preparation(
        builder=Coco if categories is COCO else CocoFormat,
        copy=f'{split}_{fingerprint}',
        split=split,
        categories=categories,
        description=f'{split} of {source}, with overlap relations from instance and panoptic annotation',
        read=read,
        examine=examine,
    )

"""COCO panoptic, and other data in its layout, as tfds builders over local files."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

from sognet_jax.categories import COCO, CategorySet
from sognet_jax.category_files import categories_to_json
from sognet_jax.data.records.storage import RecordBuilder
from sognet_jax.data.sources.coco.annotations import ImageTask, examine, image_tasks
from sognet_jax.data.sources.coco.files import annotation_files, image_folder, read_split
from sognet_jax.data.sources.preparation import Preparation, copy_name
from sognet_jax.json_files import Notes
from sognet_jax.problems import Problem


class Coco(RecordBuilder):
    """Builder of one split of COCO."""

    name = 'coco'


class CocoFormat(RecordBuilder):
    """Builder of one split of other data in COCO's layout, with categories of their own."""

    name = 'coco_format'


def preparation(
    source: str | pathlib.Path, split: str, categories: CategorySet = COCO, *, opens_files: bool = True
) -> Preparation:
    """How a split of a folder in COCO's layout (see `files`) is prepared.

    Args:
        source: the folder.
        split: for example `val2017`.
        categories: COCO's, or those of the data.
        opens_files: look into images and PNGs; without, the annotation files can only be checked.
    """
    source = pathlib.Path(source)
    files, images = annotation_files(source, split), image_folder(source, split)

    def read() -> tuple[Sequence[ImageTask], list[Problem], Notes]:
        content = read_split(source, split, categories)
        return image_tasks(content, categories, opens_files=opens_files), content.problems, content.notes

    made_of = [str(source.resolve()), *([] if categories is COCO else [json.dumps(categories_to_json(categories))])]
    return Preparation(
        builder=Coco if categories is COCO else CocoFormat,
        copy=copy_name(split, made_of, [*files.values(), images, files['panoptic'].with_suffix('')]),
        split=split,
        categories=categories,
        description=f'{split} of {source}, with overlap relations from instance and panoptic annotation',
        has_source=images.is_dir(),
        read=read,
        examine=examine,
    )

"""How COCO panoptic, and other data in its layout, are prepared from local files."""

import functools
import json
import pathlib

from sognet_jax.categories import COCO, CategorySet
from sognet_jax.category_files import categories_to_json
from sognet_jax.data.sources.coco.annotations import examine
from sognet_jax.data.sources.coco.files import annotation_files, image_folder, read_split
from sognet_jax.data.sources.preparation import Preparation, copy_name


def preparation(
    source: str | pathlib.Path, split: str, categories: CategorySet = COCO, *, opens_files: bool = True
) -> Preparation:
    """How a split of a folder in COCO's layout (see `files`) is prepared or, where `opens_files` is false, checked
    without a look into images and PNGs.
    """
    source = pathlib.Path(source)
    files, images = annotation_files(source, split), image_folder(source, split)

    made_of = [str(source.resolve()), *([] if categories is COCO else [json.dumps(categories_to_json(categories))])]
    return Preparation(
        name='coco' if categories is COCO else 'coco_format',
        copy=copy_name(split, made_of, [*files.values(), images, files['panoptic'].with_suffix('')]),
        split=split,
        categories=categories,
        description=f'{split} of {source}, with overlap relations from instance and panoptic annotation',
        has_source=images.is_dir(),
        read=functools.partial(read_split, source, split, categories, opens_files=opens_files),
        examine=examine,
    )

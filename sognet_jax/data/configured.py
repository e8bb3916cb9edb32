"""The data of a config: which builder prepares them, and how their examples are made."""

import dataclasses
import pathlib
import re
import sys

import ml_collections
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.choices import require_choice, require_numbers
from sognet_jax.data.examples.pipeline import Augmentation
from sognet_jax.data.examples.transforms import ExampleSettings
from sognet_jax.data.records.storage import MixedSource, RecordSource
from sognet_jax.data.sources.cityscapes import builder as cityscapes
from sognet_jax.data.sources.cityscapes.files import annotation_folder
from sognet_jax.data.sources.coco import builder as coco
from sognet_jax.data.sources.coco.files import annotation_files
from sognet_jax.data.sources.orders import builder as orders
from sognet_jax.data.sources.orders.readers import ORDER_FORMATS
from sognet_jax.data.sources.orders.readers import annotation_files as order_files
from sognet_jax.data.sources.preparation import Preparation, prepare
from sognet_jax.data.sources.shapes import builder as shapes
from sognet_jax.data.sources.shapes.composition import CROWDED, SceneSettings
from sognet_jax.json_files import said

NAMES = ('shapes', 'coco', 'coco_format', 'cityscapes', *ORDER_FORMATS)


def prepare_split(config: ml_collections.ConfigDict, split: str, source: str | None = None) -> RecordSource:
    """The records of a split of `source`, which is `data.source` by default; it is prepared first where that has not
    been done.

    Raises:
        ValueError: a field of the config has a value that cannot be used.
        InputError: the data are missing or broken.
    """
    data, categories = config.data, category_set(config.categories)
    example_settings(config)  # refuses what no example can be made with, before anything is written
    if data.name == 'shapes':
        world = CROWDED if data.get('crowded', False) else SceneSettings()
        scene = dataclasses.replace(world, size=tuple(data.image_size), max_instances=data.max_instances)
        settings = shapes.ShapesSettings(scene, data.num_train, data.num_validation, data.seed)
        prepared = RecordSource(shapes.prepare(data.dir, settings), split)
    else:
        preparation = preparation_of(data.name, source or data.source, split, categories, relations=data.relations)
        made = prepare(preparation, data.dir)
        for line in said(made.notes):
            tqdm.write(f'{split}: {line}', file=sys.stderr)
        prepared = RecordSource(made.folder, split)
        if prepared.left_out:
            text = f'{prepared.folder} is not the whole of its source: {prepared.left_out} problems were left out'
            tqdm.write(text, file=sys.stderr)
    _require_same(categories, prepared)
    return prepared


def preparation_of(
    name: str,
    source: str | pathlib.Path,
    split: str,
    categories: CategorySet,
    *,
    relations: bool = True,
    opens_files: bool = True,
) -> Preparation:
    """How a split of local files is prepared.

    Args:
        name: the format, one of `NAMES` but `shapes`.
        categories: for `coco_format` and images with a known order; the others have their own.
        relations: of Cityscapes: whether overlaps are read, from the polygon files.
        opens_files: but of Cityscapes: whether images and PNGs are opened; else they can only be checked.

    Raises:
        ValueError: there is no such format, or the split cannot be called so.
    """
    if not re.fullmatch(r'[\w-]+', split) or split == 'all':  # tfds reads the rest as parts of splits
        raise ValueError(f'a split cannot be called {split!r}: letters, digits, _ and - alone, and not all')
    if name == 'coco':
        return coco.preparation(source, split, opens_files=opens_files)
    if name == 'coco_format':
        return coco.preparation(source, split, categories, opens_files=opens_files)
    if name == 'cityscapes':
        return cityscapes.preparation(source, split, relations=relations)
    if name in ORDER_FORMATS:
        return orders.preparation(name, source, split, categories, opens_files=opens_files)
    raise ValueError(f'config field data.name must be one of {NAMES}, not {name!r}')


def training_source(config: ml_collections.ConfigDict) -> MixedSource:
    """What a config trains on: `data.train_split` of `data.source`, and every (source, split) of `data.also_train_on`.

    Raises:
        ValueError, InputError: as `prepare_split`.
    """
    also = config.data.also_train_on
    if any(isinstance(pair, str) or len(pair) != 2 for pair in also):
        raise ValueError(f'config field data.also_train_on must be ((source, split), ...), not {also}')
    parts = (None, config.data.train_split), *also
    return MixedSource([prepare_split(config, split, source) for source, split in parts])


def has_annotations(config: ml_collections.ConfigDict, split: str) -> bool:
    """Whether the data of a config has a split's images and annotations: drawn scenes always have."""
    data, source = config.data, pathlib.Path(config.data.source)
    if data.name in ('coco', 'coco_format'):
        return (source / split).is_dir() and any(file.is_file() for file in annotation_files(source, split).values())
    if data.name == 'cityscapes':
        return annotation_folder(source, split).is_dir()
    if data.name in ORDER_FORMATS:
        return split in order_files(data.name, source)
    return True


def example_settings(config: ml_collections.ConfigDict) -> ExampleSettings:
    """How the examples of a config are made."""
    data = config.data
    require_numbers(config)
    require_choice('config field data.matching', data.matching, ('masks', 'boxes'))
    return ExampleSettings(
        image_size=tuple(data.image_size), short_side=data.short_side, long_side=data.long_side,
        max_instances=data.max_instances, num_stuff=category_set(config.categories).num_stuff,
        inclusive_boxes=data.inclusive_boxes, match_by_box=data.matching == 'boxes',
    )  # fmt: skip


def augmentation(config: ml_collections.ConfigDict) -> Augmentation:
    """What is random about the training examples of a config.

    Raises:
        ValueError: `data.train_short_sides` is no range.
    """
    short_sides = tuple(config.data.train_short_sides)
    if short_sides and not (len(short_sides) == 2 and 0 < short_sides[0] <= short_sides[1]):
        raise ValueError(f'config field data.train_short_sides must be () or (least, greatest), not {short_sides}')
    return Augmentation(flip=config.data.flip, short_sides=short_sides or None)


def _require_same(categories: CategorySet, prepared: RecordSource) -> None:
    """Train ids mean the same to the network and to the data."""
    mine, theirs = ([(category.id, category.name) for category in of.all] for of in (categories, prepared.categories))
    if mine != theirs or categories.num_stuff != prepared.categories.num_stuff:
        raise ValueError(
            f'config field categories = {categories.name!r} has other categories than the data in {prepared.folder}'
        )

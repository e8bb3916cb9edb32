"""How images with a known order are prepared: instances and who covers whom, without a panoptic map."""

import dataclasses
import functools
import json
import pathlib

import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import categories_to_json
from sognet_jax.data.records.images import decode_image, require_usable
from sognet_jax.data.records.relations import UNDECIDED, common_areas, rle_areas, rle_boxes
from sognet_jax.data.records.schema import InstanceAnnotations, Pairs, Record
from sognet_jax.data.sources.orders.readers import OrderedImage, read_ordered
from sognet_jax.data.sources.preparation import Preparation, copy_name
from sognet_jax.data.sources.staging import TOO_SMALL, Examined
from sognet_jax.files import read_bytes
from sognet_jax.json_files import Notes
from sognet_jax.problems import Problem


def preparation(
    name: str, source: str | pathlib.Path, split: str, categories: CategorySet, *, opens_files: bool = True
) -> Preparation:
    """How a split, an annotation file, of a folder in one of the `ORDER_FORMATS` is prepared or, where `opens_files` is
    false, checked without its images; classes are the things of `categories`, see `CategorySet.thing_numbers`.
    """
    source = pathlib.Path(source)

    def read() -> tuple[list[OrderedImage], list[Problem], Notes]:
        problems: list[Problem] = []
        notes = Notes()
        images = tqdm(read_ordered(name, source, [split], problems, notes), f'read {split}', unit='image', delay=2)
        return list(images), problems, notes

    return Preparation(
        name=name, copy=copy_name(split, [str(source.resolve()), json.dumps(categories_to_json(categories))], [source]),
        split=split, categories=categories, description=f'{split} of {source}, with the order that it states',
        has_source=source.is_dir(), read=read, examine=functools.partial(examine, categories, opens_files),
    )  # fmt: skip


def examine(categories: CategorySet, opens_files: bool, image: OrderedImage) -> Examined:
    """The record of an image with its whole masks and all pairs but those that are known not to cover each other."""
    kind, place = 'broken or missing image', str(image.image_file)
    try:
        require_usable(image.size)
        if opens_files:
            decode_image(read_bytes(image.image_file), image.size)
        kind, place = 'unknown category', image.place
        classes = categories.thing_numbers(image.names)
    except ValueError as error:
        return Examined(None, image.image_file, (Problem(kind, place, str(error)),))
    areas = rle_areas(image.whole)
    rows, notes = np.flatnonzero(areas), Notes({TOO_SMALL: int((areas == 0).sum())})
    rles, none = [image.whole[row] for row in rows.tolist()], np.zeros(len(rows), np.int64)
    instances = InstanceAnnotations(
        image.ids[rows], classes[rows], none.astype(bool), rle_boxes(rles), rles, segment=none, box_segment=none
    )
    size, number = image.size, image.image_id
    record = Record(b'', number, image.file_name, size, has_instances=True, has_relations=True, instances=instances)
    chosen = np.ix_(rows, rows)
    pairs = _pairs(image.covered[chosen], image.decided[chosen], common_areas(rles, rles))
    return Examined(dataclasses.replace(record, pairs=pairs), image.image_file, (), +notes)


def _pairs(covered: np.ndarray, decided: np.ndarray, shared: np.ndarray) -> Pairs:
    first, second = np.nonzero(np.triu(covered | covered.T | ~decided, 1))
    one_way = decided & (covered ^ covered.T)
    order = np.where(one_way, np.where(covered, 0, 1), UNDECIDED)[first, second].astype(np.int8)
    unknown, nothing = np.full(len(first), UNDECIDED, np.int8), np.zeros(len(first), np.int32)
    return Pairs(
        first.astype(np.int32), second.astype(np.int32), order, unknown, shared[first, second], nothing, nothing
    )

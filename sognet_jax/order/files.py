"""Reading `order.json`, and anybody's instances: results in COCO's format, or annotations in it."""

import collections
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from sognet_jax import json_schemas as schemas
from sognet_jax.data.records.images import find_images
from sognet_jax.data.sources.orders import readers
from sognet_jax.json_files import Notes, decode_entries, read_json
from sognet_jax.problems import Problem, raise_if_any
from sognet_jax.scene import THRESHOLD

Pairs = list[schemas.OrderOverlap]


def read_order(path: pathlib.Path) -> dict[str, Pairs]:
    """The pairs that an `order.json` says of each image by its name.

    Raises:
        InputError: it is missing or broken, or has an image twice.
    """
    problems: list[Problem] = []
    found: dict[str, Pairs] = {}
    raws = read_json(path, schemas.OverlapFile).images
    for index, entry in decode_entries(path, 'images', raws, schemas.OrderedImageEntry, problems, Notes()):
        if entry.file_name in found:
            problems.append(Problem('doubled image', f'{path}, images[{index}]', f'{entry.file_name} is there twice'))
        found[entry.file_name] = entry.overlaps
    raise_if_any(problems)
    return found


def order_matrix(order: Mapping[str, Pairs], image: readers.OrderedImage) -> np.ndarray:
    """`[n, n]` bool, i is covered by j with strength 0.5 or more, of the instances of an image.

    Raises:
        ValueError: the order does not have the image, or has an instance that the image does not have or on itself.
    """
    if image.file_name not in order:
        raise ValueError(f'{image.place}: the order says nothing of {image.file_name!r}')
    row_of = {number: row for row, number in enumerate(image.ids.tolist())}
    says = np.zeros((len(row_of),) * 2, bool)
    for pair in order[image.file_name]:
        if unknown := {pair.covered, pair.covering} - row_of.keys():
            raise ValueError(f'{image.place}: the order has {min(unknown)}, which is not here')
        if pair.covered == pair.covering:
            raise ValueError(f'{image.place}: the order has {pair.covered} on itself')
        says[row_of[pair.covered], row_of[pair.covering]] |= pair.strength >= THRESHOLD
    return says


def read_instances(
    path: pathlib.Path, names: Mapping[int, str], folder: pathlib.Path | None, least: float, problems: list[Problem]
) -> Iterator[readers.OrderedImage]:
    """The images of a file of instances, of which nothing says how they lie.

    Args:
        path: results in COCO's format, which are numbered from 1 on, of which those with the least score or a higher
            one count; or annotations in it.
        names: of the categories of results; annotations say their own.
        folder: of the images, where results find their names: an image's number ends the name of its file. Without it,
            the number is the name.
        problems: gets what is wrong; images with a problem are not there.

    Raises:
        InputError: the file is missing or no JSON of the right form.
    """
    kinds: Any = list[msgspec.Raw] | schemas.AnnotationFile
    content = read_json(path, kinds)
    images: dict[Any, schemas.ImageEntry] = {}
    listed: dict[Any, list[readers.InstanceMasks]] = collections.defaultdict(list)
    if isinstance(content, schemas.AnnotationFile):
        images, instances, own = readers.read_coco(path, problems, Notes())
        listed |= {
            key: [readers.masks_of(item, own) for item in of if not item.iscrowd] for key, of in instances.items()
        }
        content = []
    files = _numbered(folder) if folder else None
    for index, result in decode_entries(path, 'results', content, schemas.MaskResult, problems, Notes()):
        key, mask = result.image_id, result.segmentation
        if result.score < least:
            continue
        if key not in images:
            called = {str(key)} if files is None else files[key]
            if len(called) != 1:
                text = f'{len(called)} files are called so: {", ".join(sorted(called)[:2])}'
                problems.append(Problem('no file of an image', f'{folder}, image {key}', text))
            images[key] = schemas.ImageEntry(0, min(called, default=str(key)), *mask.size)
        name = names.get(result.category_id, f'category {result.category_id}')
        listed[key].append(readers.InstanceMasks(index + 1, name, msgspec.Raw(msgspec.json.encode(mask))))
    places = dict[str, str]()
    for key, image in images.items():
        place = f'{path}, image {key}'
        readers.is_doubled(places, image.file_name, place, problems)
        nothing = np.zeros((2, len(listed[key]), len(listed[key])), bool)
        found = place, image, listed[key], lambda nothing=nothing: (*nothing, readers.NO_DEPTH)
        yield from readers.ordered_image(found, path, problems, Notes())


def _numbered(folder: pathlib.Path) -> Mapping[int | str, set[str]]:
    """Names of image files by what they are called without suffix, and by the number at its end."""
    files: dict[int | str, set[str]] = collections.defaultdict(set)
    for file in find_images([folder]):
        number = re.search(r'\d+$', file.stem)
        for key in (file.stem, int(number[0]) if number else file.stem):
            files[key].add(file.name)
    return files

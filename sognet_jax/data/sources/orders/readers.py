"""Images with a known order, in the layouts of InstaOrder, COCOA, KINS and SynTable: docs/order-benchmarks.md."""

import functools
import io
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax import json_schemas as schemas
from sognet_jax.data.records.images import decode_image, looks_like_an_image
from sognet_jax.data.records.relations import RLE, common_areas
from sognet_jax.data.sources.coco.files import read_images, read_instances
from sognet_jax.data.sources.coco.masks import read_mask
from sognet_jax.files import read_bytes
from sognet_jax.json_files import Notes, decode_entries, read_json
from sognet_jax.problems import Fault, InputError, Problem

NAMED = {'instaorder': ['InstaOrder_*.json'], 'cocoa': ['COCO_amodal_*.json', '*.json']}
"""Patterns of annotation files, the first of which counts that fits any; elsewhere `*.json`."""

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
"""A pixel and its four neighbours."""

NO_DEPTH = np.zeros((0, 5), int)


class OrderedImage(NamedTuple):
    """The n instances of an image, and who covers whom."""

    place: str  # where that is said, for messages
    image_file: pathlib.Path
    file_name: str
    image_id: int
    size: tuple[int, int]
    ids: np.ndarray  # `[n]` int64, as the file numbers them; `names` of their classes
    names: Sequence[str]
    # their masks, with and without what is hidden; empty lists where nobody asked for them
    whole: Sequence[RLE]
    visible: Sequence[RLE]
    covered: np.ndarray  # `[n, n]` bool, i is covered by j; both ways of mutual pairs
    # `[n, n]` bool, symmetric: the order of the pair is known (it may be that neither covers the other)
    decided: np.ndarray
    # `[p, 5]` int, pairs of judged distance: two instances, of which the first is nearer, unless neither is (third
    # column); whether their depth ranges overlap; how many answers it took until two agreed
    depth: np.ndarray


class InstanceMasks(NamedTuple):
    """An instance: its number, its class, and its masks as the files have them; what is seen where it is not all."""

    id: int
    name: str
    whole: msgspec.Raw | None
    visible: msgspec.Raw | None = None


Order = tuple[np.ndarray, np.ndarray, np.ndarray]
"""`[n, n]` who lies over whom, `[n, n]` which pairs are decided, `[p, 5]` who is nearer (`OrderedImage.depth`)."""

Found = tuple[str, schemas.ImageEntry, Sequence[InstanceMasks], Callable[[], Order] | None]
"""An image in a file: its place, its instances, and what gives their order, which else follows from the masks."""


def annotation_files(name: str, source: pathlib.Path) -> dict[str, pathlib.Path]:
    """The splits of a source: its annotation files, in its folder or in `annotations` there, by name without suffix."""
    for pattern in NAMED.get(name, ['*.json']):
        found = sorted([*source.glob(pattern), *source.glob(f'annotations/{pattern}')])
        if shown := {path.stem: path for path in found if path.name[0] != '.'}:
            return shown
    return {}


def read_ordered(
    name: str, source: pathlib.Path, splits: Sequence[str], problems: list[Problem], notes: Notes, *, masks: bool = True
) -> Iterator[OrderedImage]:
    """Every image of some splits of a source, or of all, that has no problem; see `ordered_image`.

    Raises:
        InputError: a file is missing or no JSON of the right form.
    """
    files, places = annotation_files(name, source), dict[str, str]()
    for split in splits or files or ['*']:
        if split not in files:
            text = f'has no annotation file {split}.json of {name}, but {", ".join(files) or "none"}'
            raise InputError([Problem('missing file', str(source), text, False)])
        for found in READERS[name](source, files[split], problems, notes):
            place, image = found[:2]
            if is_doubled(places, image.file_name, place, problems):
                continue
            # Where images of tables, of COCO, and of KITTI are, which numbers those of either folder from 0 on.
            folders = ('', split.rpartition('_')[-1], f'{"train" if "train" in split else "test"}ing/image_2')
            image_files = [source / folder / image.file_name for folder in folders]
            image_file = next(filter(pathlib.Path.is_file, image_files), image_files[0])
            yield from ordered_image(found, image_file, problems, notes, masks=masks)


def is_doubled(places: dict[str, str], file_name: str, place: str, problems: list[Problem]) -> bool:
    """Whether another place has an image of this name, which is a problem then; `places` are those of before."""
    other = places.setdefault(file_name, place)
    if other != place:
        problems.append(Problem('doubled image', place, f'{file_name} is that of {other}, too'))
    return other != place


def ordered_image(
    found: Found, image_file: pathlib.Path, problems: list[Problem], notes: Notes, *, masks: bool = True
) -> Iterator[OrderedImage]:
    """The image, or nothing and a problem. Without `masks`, they are read only where the order follows from them."""
    place, image, listed, stated = found
    size, at = (image.height, image.width), place
    whole: list[RLE] = []
    visible: list[RLE] = []
    try:
        for item in listed if masks or stated is None else ():
            at = f'{place}, instance {item.id}'
            if item.whole is None:
                raise Fault('unknown instance', 'instances_*.json beside the file has no such annotation')
            whole.append(read_mask(item.whole, size, notes).rle)
            at += ', what is seen'
            visible.append(whole[-1] if item.visible is None else read_mask(item.visible, size, notes).rle)
        at = place
        if len({item.id for item in listed}) < len(listed):
            raise Fault('doubled instance', 'has an instance twice')
        over, decided, depth = stated() if stated else (*order_of_masks(visible, whole), NO_DEPTH)
    except Fault as error:
        problems.append(Problem(error.kind, at, str(error)))
        return
    ids, names = np.array([item.id for item in listed], np.int64), [item.name for item in listed]
    covered = over.T.copy()  # i lies over j, say the formats; i is covered by j, says this project: turned here alone
    named = place, image_file, image.file_name, image.id, size, ids, names
    yield OrderedImage(*named, whole, visible, covered, decided, depth)


def read_coco(
    path: pathlib.Path, problems: list[Problem], notes: Notes
) -> tuple[dict[int, schemas.ImageEntry], dict[int, list[schemas.InstanceEntry]], dict[int, str]]:
    """Images, their instances, and the names of categories."""
    content = read_json(path, schemas.AnnotationFile)
    images = read_images(path, content.images, problems, notes)
    instances = read_instances(path, content.annotations, set(images), problems, notes)
    categories = decode_entries(path, 'categories', content.categories, schemas.CategoryEntry, problems, notes)
    names = {entry.id: entry.name or '' for _, entry in categories}
    return images, {image: [entry for _, entry in entries] for image, entries in instances.items()}, names


def touching(masks: Sequence[RLE]) -> np.ndarray:
    """`[n, n]` bool, pairs of masks that share a pixel or have neighbours (of four)."""
    grown = [coco_mask.encode(np.asfortranarray(cv2.dilate(coco_mask.decode(mask), CROSS))) for mask in masks]
    near = common_areas(grown, masks) > 0
    return (near | near.T) & ~np.eye(len(masks), dtype=bool)


def order_of_masks(visible: Sequence[RLE], whole: Sequence[RLE]) -> tuple[np.ndarray, np.ndarray]:
    """`[n, n]` who lies over whom, and which pairs are decided, as COCOA and KINS are scored.

    Of two whose visible masks touch, that lies over the other whose visible mask shares more pixels with the other's
    whole mask. Where nothing is shared, neither does; where both share as many, or do not touch, nobody knows.
    """
    hidden, different = common_areas(visible, whole), ~np.eye(len(visible), dtype=bool)
    over = (hidden > hidden.T) & touching(visible)
    return over, over | over.T | ((hidden == 0) & (hidden.T == 0) & different)


def masks_of(
    item: schemas.InstanceEntry, names: Mapping[int, str], visible: msgspec.Raw | None = None
) -> InstanceMasks:
    """An instance of a file like COCO's; one of a category without a name has none."""
    return InstanceMasks(item.id, names.get(item.category_id, ''), item.segmentation, visible)


def _kins(_: pathlib.Path, path: pathlib.Path, problems: list[Problem], notes: Notes) -> Iterator[Found]:
    images, instances, names = read_coco(path, problems, notes)
    for number, image in images.items():
        listed = [masks_of(item, names, item.inmodal_seg) for item in instances[number]]
        yield f'{path}, image {number}', image, listed, None


def _syntable(source: pathlib.Path, path: pathlib.Path, problems: list[Problem], notes: Notes) -> Iterator[Found]:
    images, instances, names = read_coco(path, problems, notes)
    for number, image in images.items():
        listed = [masks_of(item, names, item.visible_mask) for item in instances[number]]
        stated = functools.partial(_matrix, source, image.occlusion_order_file_name, len(listed))
        yield f'{path}, image {number}', image, listed, stated


def _instaorder(_: pathlib.Path, path: pathlib.Path, problems: list[Problem], notes: Notes) -> Iterator[Found]:
    """COCO's own file says the rest; scores are had without it."""
    coco = path.with_name(path.name.replace('InstaOrder', 'instances', 1))
    images, instances, names = read_coco(coco, problems, notes) if coco.is_file() else ({}, {}, {})
    entries = read_json(path, schemas.EvaluatedFile).annotations
    for index, entry in decode_entries(path, 'annotations', entries, schemas.InstaOrderEntry, problems, notes):
        number = entry.image_id
        known = {item.id: masks_of(item, names) for item in instances.get(number, [])}
        image = images.get(number, schemas.ImageEntry(number, f'{number:012d}.jpg', 1, 1))
        listed = [known.get(instance, InstanceMasks(instance, '', None)) for instance in entry.instance_ids]
        yield f'{path}, annotations[{index}], image {number}', image, listed, functools.partial(_judged, entry)


def _cocoa(_: pathlib.Path, path: pathlib.Path, problems: list[Problem], notes: Notes) -> Iterator[Found]:
    if 'regions' in read_json(path, dict[str, msgspec.Raw]):  # of one image, whose file is called the same
        entry = read_json(path, schemas.CocoaEntry)
        called_so = (file for file in sorted(path.parent.iterdir()) if file.stem == path.stem)
        beside = next(filter(looks_like_an_image, called_so), path)
        try:
            size = decode_image(read_bytes(beside)).shape
        except ValueError as error:
            raise InputError([Problem('broken or missing image', f'{beside}, of {path.name}', str(error))]) from error
        images = {entry.image_id: schemas.ImageEntry(entry.image_id, beside.name, *size[:2])}
        entries = [(f'{path}', entry)]
    else:
        content = read_json(path, schemas.AnnotationFile)
        images = read_images(path, content.images, problems, notes)
        found = decode_entries(path, 'annotations', content.annotations, schemas.CocoaEntry, problems, notes)
        entries = [(f'{path}, annotations[{index}], image {entry.image_id}', entry) for index, entry in found]
    for place, entry in entries:
        before, field = len(problems), f'image {entry.image_id}, regions'
        listed = [
            InstanceMasks(index + 1, region.name.strip(), _polygon(region.segmentation), region.visible_mask or None)
            for index, region in decode_entries(path, field, entry.regions, schemas.CocoaRegion, problems, notes)
        ]
        stated = functools.partial(_constraint, entry.depth_constraint, len(listed))
        if entry.image_id not in images:
            problems.append(Problem('annotation of no image', place, 'is not in images'))
        elif len(problems) == before:
            yield place, images[entry.image_id], listed, stated if entry.depth_constraint else None


READERS = {'instaorder': _instaorder, 'cocoa': _cocoa, 'kins': _kins, 'syntable': _syntable}
ORDER_FORMATS = tuple(READERS)


def _polygon(outline: list[float]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode([outline]))


def _matrix(source: pathlib.Path, name: str, count: int) -> Order:
    """SynTable's, 1 where the row's instance lies over the column's."""
    field = f'occlusion_order_file_name {name!r}'
    try:
        over = np.load(io.BytesIO(read_bytes(source / name)), allow_pickle=False) + 0.0
    except Exception as error:  # of every kind, says NumPy of what only begins like one of its files
        raise Fault('broken matrix', f'{field} cannot be read: {error}') from error
    if over.shape != (count, count) or not np.isin(over, (0, 1)).all() or np.any(np.diag(over)):
        text = f'{field}, {list(over.shape)}, is no matrix of 0 and 1 with an empty diagonal, [{count}, {count}]'
        raise Fault('broken matrix', text)
    return over == 1, ~np.eye(count, dtype=bool), NO_DEPTH


def _constraint(text: str, count: int) -> Order:
    """COCOA's `1-2,1-3`: region 1 lies over 2 and 3."""
    return _over([_ends(pair, '-', 1, count) for pair in text.split(',')], count), ~np.eye(count, dtype=bool), NO_DEPTH


def _judged(entry: schemas.InstaOrderEntry) -> Order:
    count = len(entry.instance_ids)
    pairs = [_ends(pair, '<', 0, count) for occlusion in entry.occlusion for pair in occlusion.order.split('&')]
    depth = [(*_ends(of.order, '[<=]', 0, count), '=' in of.order, of.overlap, of.count) for of in entry.depth]
    return _over(pairs, count), ~np.eye(count, dtype=bool), np.array(depth, int).reshape(-1, 5)


def _over(pairs: list[tuple[int, int]], count: int) -> np.ndarray:
    over = np.zeros((count, count), bool)
    over[tuple(np.array(pairs, int).reshape(-1, 2).T)] = True
    return over


def _ends(pair: str, sign: str, first: int, count: int) -> tuple[int, int]:
    """Two different rows, of numbers with a sign between them."""
    found = re.fullmatch(rf'\s*(\d{{1,6}}){sign}(\d{{1,6}})\s*', pair)
    one, other = (int(number) - first for number in found.groups()) if found else (0, 0)
    if one == other or min(one, other) < 0 or max(one, other) >= count:
        raise Fault('broken order', f'order {pair.strip()!r} is not of two of its {count} instances, from {first} on')
    return one, other

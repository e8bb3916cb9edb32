"""What COCO's annotations say of one image, checked against its files, with every overlap of its instances."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.categories import CategorySet
from sognet_jax.data.records.images import bare_record, decode_image
from sognet_jax.data.records.png import MAX_SEGMENTS, encode_indices, index_ids
from sognet_jax.data.records.relations import (
    NO_ROW,
    RLE,
    UNDECIDED,
    decide_pairs,
    find_pairs,
    map_rles,
    match_segments,
    match_segments_by_box,
    rle_boxes,
)
from sognet_jax.data.records.schema import (
    NO_SEGMENT,
    InstanceAnnotations,
    Pairs,
    Record,
    Segments,
    no_pairs,
    no_segments,
)
from sognet_jax.data.sources.coco.files import CocoSplit, Entry, annotation_files
from sognet_jax.data.sources.problems import Problem
from sognet_jax.data.sources.staging import Examined
from sognet_jax.id_maps import NUM_IDS, decode_ids

BOX_TOLERANCE = 1.0
"""Pixels by which a box may exceed its image: annotations are rounded."""

WHITE = (255, 255 + 256 * 255 + 65536 * 255)
"""Ids that a PNG has where 255, not 0, was written for unlabelled pixels."""


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """The entries of one image, and where its files are.

    Attributes:
        image: its entry in `images`.
        image_file: the file.
        instances, panoptic: its annotations; None where it has none of the kind.
        instances_file, panoptic_file: the JSON files, for messages; the second names the folder of PNGs too.
        categories: the classes.
    """

    image: Entry
    image_file: pathlib.Path
    instances: list[Entry] | None
    panoptic: Entry | None
    instances_file: pathlib.Path
    panoptic_file: pathlib.Path
    categories: CategorySet


def image_tasks(split: CocoSplit, categories: CategorySet) -> list[ImageTask]:
    """One task for each image of a split, in order."""
    files, folder = annotation_files(split.source, split.name), split.image_folder
    return [
        ImageTask(
            image,
            folder / image['file_name'],
            split.instances.get(image['id']),
            split.panoptic.get(image['id']),
            files['instances'],
            files['panoptic'],
            categories,
        )
        for image in split.images
    ]


def examine(task: ImageTask) -> Examined:
    """Checks everything about one image, and works out which of its instances overlap.

    Returns:
        The record without what is broken, and all that is. There is no record if the image or its panoptic annotation
        cannot be used.
    """
    problems: list[Problem] = []
    size = (task.image['height'], task.image['width'])
    _check_image(task, size, problems)
    segments, indices = no_segments(), None
    if task.panoptic is not None:
        segments, indices = _read_panoptic(task, task.panoptic, size, problems)
    if problems:
        _read_instances(task, size, problems)
        return Examined(None, task.image_file, tuple(problems))
    record = bare_record(b'', task.image['id'], task.image_file.name, size)
    if indices is not None:
        record = dataclasses.replace(
            record, has_panoptic=True, segments=segments, panoptic_bytes=encode_indices(indices)
        )
    too_small = 0
    if task.instances is not None:
        instances, too_small = _read_instances(task, size, problems)
        record = _relate(dataclasses.replace(record, instances=instances, has_instances=True), indices, task.categories)
    return Examined(record, task.image_file, tuple(problems), too_small)


def _relate(record: Record, indices: np.ndarray | None, categories: CategorySet) -> Record:
    """The record with its pairs, and with the panoptic segments of its instances."""
    instances, segments = record.instances, record.segments
    segment_rles = [] if indices is None else map_rles(indices, len(segments.id))
    things = np.flatnonzero((segments.category >= categories.num_stuff) & ~segments.crowd)
    thing_rles = [segment_rles[row] for row in things]
    own = np.where(instances.crowd, -1, instances.category + categories.num_stuff)
    matched = _through(match_segments(instances.rles, own, thing_rles, segments.category[things]), things)
    by_box = np.full(len(instances.id), NO_ROW, np.int64)
    real = np.flatnonzero(~instances.crowd)
    by_box[real] = _through(match_segments_by_box(instances.box[real], rle_boxes(thing_rles)), things)
    pairs = no_pairs()
    if len(instances.rles):
        ends, intersections = find_pairs(instances.rles, instances.crowd)
        covered, pixels = decide_pairs(instances.rles, ends, segment_rles, matched)
        unknown = np.full(len(ends), UNDECIDED, np.int8)
        pairs = Pairs(ends[:, 0], ends[:, 1], covered, unknown, intersections, pixels[:, 0], pixels[:, 1])
    ids = np.append(segments.id, NO_SEGMENT)  # NO_ROW is the last
    instances = dataclasses.replace(instances, segment=ids[matched], box_segment=ids[by_box])
    return dataclasses.replace(record, instances=instances, pairs=pairs, has_relations=True)


def _through(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Rows among chosen segments as rows among all."""
    return np.where(rows == NO_ROW, NO_ROW, np.append(chosen, NO_ROW)[rows])


def _check_image(task: ImageTask, size: tuple[int, int], problems: list[Problem]) -> None:
    place = f'{task.image_file}, image {task.image["id"]}'
    if not task.image_file.is_file():
        problems.append(Problem('missing image', place, 'is missing'))
        return
    try:
        decoded = decode_image(task.image_file.read_bytes())
    except ValueError as error:
        problems.append(Problem('broken image', place, str(error)))
        return
    if decoded.shape[:2] != size:
        text = f'is {decoded.shape[0]} x {decoded.shape[1]} (height x width), its record says {size[0]} x {size[1]}'
        problems.append(Problem('image of another size', place, text))


def _read_panoptic(
    task: ImageTask, panoptic: Entry, size: tuple[int, int], problems: list[Problem]
) -> tuple[Segments, np.ndarray | None]:
    """The segments, and the map of indices; None if there is a problem."""
    before = len(problems)
    image_id = task.image['id']
    path = task.panoptic_file.with_suffix('') / panoptic['file_name']
    place = f'{path}, image {image_id}'
    segments = _read_segments(task, panoptic, problems)
    try:
        ids = decode_ids(path.read_bytes())
    except OSError as error:
        problems.append(Problem('missing PNG', place, f'panoptic PNG is missing ({error.strerror})'))
        return segments, None
    except ValueError as error:
        problems.append(Problem('broken PNG', place, f'panoptic PNG {error}'))
        return segments, None
    if ids.shape != size:
        text = f'panoptic PNG is {ids.shape[0]} x {ids.shape[1]} (height x width), the image {size[0]} x {size[1]}'
        problems.append(Problem('PNG of another size', place, text))
        return segments, None
    indices = index_ids(ids, segments.id)
    for unknown in np.unique(ids[(indices == 0) & (ids != NO_SEGMENT)]).tolist():
        hint = '; unlabelled pixels are 0, not 255' if unknown in WHITE else ''
        text = f'id {unknown} has {np.count_nonzero(ids == unknown)} pixels and no segment{hint}'
        problems.append(Problem('PNG id without a segment', place, text))
    for absent in segments.id[np.bincount(indices.ravel(), minlength=len(segments.id) + 1)[1:] == 0]:
        text = f'{path.name} has no pixel of it'
        where = f'{task.panoptic_file}, image {image_id}, segment {absent}'
        problems.append(Problem('segment without a pixel', where, text))
    return segments, indices if len(problems) == before else None


def _read_segments(task: ImageTask, panoptic: Entry, problems: list[Problem]) -> Segments:
    ids, train_ids, crowd = [], [], []
    for entry in panoptic['segments_info']:
        place = f'{task.panoptic_file}, image {task.image["id"]}, segment {entry.get("id")}'
        if not isinstance(entry.get('id'), int) or not NO_SEGMENT < entry['id'] < NUM_IDS:
            problems.append(Problem('broken segment id', place, f'id is {entry.get("id")}, expected 1 .. 16777215'))
            continue
        if entry['id'] in ids:
            problems.append(Problem('doubled segment id', place, 'this id appears twice'))
            continue
        train_id, is_crowd = _train_id(entry, place, task.categories, problems), bool(entry.get('iscrowd', 0))
        if is_crowd and train_id is not None and train_id < task.categories.num_stuff:
            name = task.categories.all[train_id].name
            problems.append(Problem('crowd of stuff', place, f'iscrowd is 1, but {name!r} is stuff'))
        ids.append(entry['id'])
        # Its pixels have a segment, if one of no category: that is said once.
        train_ids.append(-1 if train_id is None else train_id)
        crowd.append(is_crowd)
    if len(ids) > MAX_SEGMENTS:
        place = f'{task.panoptic_file}, image {task.image["id"]}'
        problems.append(Problem('too many segments', place, f'{len(ids)}, at most {MAX_SEGMENTS}'))
    return Segments(np.array(ids, np.int64), np.array(train_ids, np.int32), np.array(crowd, bool))


def _read_instances(task: ImageTask, size: tuple[int, int], problems: list[Problem]) -> tuple[InstanceAnnotations, int]:
    """The instances without a problem, and the number of those that are too small to cover a pixel."""
    rows: list[tuple[int, int, bool, np.ndarray, RLE]] = []
    too_small = 0
    for entry in task.instances or []:
        found: list[Problem] = []
        place = f'{task.instances_file}, image {task.image["id"]}, annotation {entry["id"]}'
        box = _read_box(entry, place, size, found)
        rle = _read_mask(entry, place, size, found)
        train_id = _train_id(entry, place, task.categories, found)
        if train_id is not None and train_id < task.categories.num_stuff:
            text = f'category {entry["category_id"]} ({task.categories.all[train_id].name}) is stuff, not a thing'
            found.append(Problem('thing and stuff mixed up', place, text))
        if found or box is None or rle is None or train_id is None:  # what is None is one of the problems
            problems += found
        elif coco_mask.area(rle) > 0:
            is_crowd = bool(entry.get('iscrowd', 0))
            rows.append((entry['id'], train_id - task.categories.num_stuff, is_crowd, box, rle))
        elif np.min(box[2:] - box[:2]) <= 1:
            too_small += 1
        else:
            problems.append(Problem('empty mask', place, f'its mask covers no pixel, its box is {entry["bbox"]}'))
    ids, classes, crowd, boxes, rles = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    nothing = np.zeros(len(rows), np.int64)
    instances = InstanceAnnotations(
        id=np.array(ids, np.int64),
        category=np.array(classes, np.int32),
        crowd=np.array(crowd, bool),
        box=np.array(boxes, np.float32).reshape(-1, 4),
        rles=list(rles),
        segment=nothing,
        box_segment=nothing,
    )
    return instances, too_small


def _read_box(entry: Entry, place: str, size: tuple[int, int], problems: list[Problem]) -> np.ndarray | None:
    """`[4]` half-open x1, y1, x2, y2, clipped to the image."""
    try:
        x, y, width, height = (float(value) for value in entry['bbox'])
        is_finite = bool(np.all(np.isfinite([x, y, width, height])))
    except (KeyError, TypeError, ValueError):
        is_finite = False
    if not is_finite or width < 0 or height < 0:
        text = f'bbox is {entry.get("bbox")}, expected [x, y, width, height]'
        problems.append(Problem('broken box', place, text))
        return None
    box, limits = np.array([x, y, x + width, y + height]), np.array([size[1], size[0]] * 2)
    if np.any(box < -BOX_TOLERANCE) or np.any(box > limits + BOX_TOLERANCE):
        text = f'bbox {entry["bbox"]} is not inside the image of {size[0]} x {size[1]} (height x width)'
        problems.append(Problem('box outside the image', place, text))
    return np.clip(box, 0, limits).astype(np.float32)


def _read_mask(entry: Entry, place: str, size: tuple[int, int], problems: list[Problem]) -> RLE | None:
    """Polygons, uncompressed or compressed run lengths -> compressed run lengths, by the COCO rasteriser."""
    try:
        return _to_rle(entry['segmentation'], size)
    except Exception as error:  # pycocotools raises whatever its C code and Cython meet
        reason = 'is missing' if isinstance(error, KeyError) and 'segmentation' not in entry else str(error)
        problems.append(Problem('broken segmentation', place, f'segmentation cannot be read: {reason}'))
        return None


def _to_rle(segmentation: Any, size: tuple[int, int]) -> RLE:
    if isinstance(segmentation, list):
        if not segmentation or any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
            raise ValueError('expected polygons [x1, y1, x2, y2, x3, y3, ...] of at least three points')
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if tuple(segmentation['size']) != size:
        raise ValueError(f'its size is {segmentation["size"]}, the image {list(size)}')
    if isinstance(segmentation['counts'], list):
        if sum(segmentation['counts']) != size[0] * size[1]:
            raise ValueError(f'its counts are of {sum(segmentation["counts"])} pixels, not {size[0] * size[1]}')
        return coco_mask.frPyObjects(segmentation, *size)
    return {'size': list(size), 'counts': segmentation['counts'].encode()}


def _train_id(entry: Entry, place: str, categories: CategorySet, problems: list[Problem]) -> int | None:
    if 'category_id' not in entry:
        problems.append(Problem('broken annotation', place, "has no field 'category_id'"))
        return None
    for train_id, category in enumerate(categories.all):
        if category.id == entry['category_id']:
            return train_id
    text = f'category id {entry["category_id"]} is not in {categories.name}'
    problems.append(Problem('unknown category', place, text))
    return None

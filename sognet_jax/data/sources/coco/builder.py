"""How COCO panoptic, and other data in its layout, are prepared from local files.

What the annotations say of an image is checked against its files, and every overlap of its instances worked out.
"""

import dataclasses
import functools
import json
import pathlib

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.categories import COCO, CategorySet
from sognet_jax.category_files import categories_to_json
from sognet_jax.data.records.images import decode_image, is_turned, require_usable
from sognet_jax.data.records.png import MAX_SEGMENTS, encode_indices, index_ids
from sognet_jax.data.records.relations import NO_ROW, RLE, map_rles, match_segments, match_segments_by_box, rle_boxes
from sognet_jax.data.records.schema import NO_SEGMENT, InstanceAnnotations, Record, Segments, related
from sognet_jax.data.sources.coco.files import ImageTask, annotation_files, image_folder, read_split
from sognet_jax.data.sources.coco.masks import DISAGREE, Mask, agreed_box, is_normalised, read_mask
from sognet_jax.data.sources.preparation import Preparation, copy_name
from sognet_jax.data.sources.staging import DISAGREEMENT, FEWEST, TOO_SMALL, Comparison, Examined
from sognet_jax.files import read_bytes
from sognet_jax.id_maps import decode_ids
from sognet_jax.json_files import Notes, decode_entries
from sognet_jax.json_schemas import InstanceEntry, PanopticEntry, SegmentEntry
from sognet_jax.problems import Fault, Problem

MOST_INSTANCES = 4_096
"""Of an image: each is compared with each."""

SAME_PLACE = 0.3
"""Mask IoU from which on an instance and its segment are seen as two drawings of one thing."""

TURNED = 'images are turned or mirrored as their EXIF says: annotations have to be of what viewers show'

WHITE = (255, 255 + 256 * 255 + 65536 * 255)
"""Ids that a PNG has where 255, not 0, was written for unlabelled pixels."""


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


def examine(task: ImageTask) -> Examined:
    """Checks everything about one image, and works out which of its instances overlap.

    The record is without what is broken; there is none if the image or its panoptic annotation cannot be used, or was
    not to be opened.
    """
    problems: list[Problem] = []
    notes = Notes()
    try:
        require_usable(task.size)
        if task.opens_files:
            content = read_bytes(task.image_file)
            decode_image(content, task.size)
            if is_turned(content):
                notes[TURNED] += 1
    except ValueError as error:
        problems.append(Problem('broken or missing image', f'{task.image_file}, image {task.image.id}', str(error)))
    segments, indices = Segments(), None
    if task.panoptic is not None:
        segments, indices = _read_panoptic(task, task.panoptic, problems, notes)
    is_usable = not problems and task.opens_files
    instances = None
    doubts: list[Problem] = []
    if task.instances is not None:
        if len(task.instances) > MOST_INSTANCES:
            text = f'{len(task.instances)} instances, at most {MOST_INSTANCES}'
            problems.append(Problem('too many instances', f'{task.instances_file}, image {task.image.id}', text))
            is_usable = False
        instances = _read_instances(task, task.instances[:MOST_INSTANCES], problems, doubts, notes)
    boxes = sum(entry.bbox is not None for _, entry in task.instances or ())
    comparison = Comparison(boxes=boxes, doubts=tuple(doubts))
    if not is_usable:
        return Examined(None, task.image_file, tuple(problems), notes, comparison)
    record = Record(b'', task.image.id, task.image.file_name, task.size)
    if indices is not None:
        record = dataclasses.replace(
            record, has_panoptic=True, segments=segments, panoptic_bytes=encode_indices(indices)
        )
    if instances is not None:
        record = dataclasses.replace(record, instances=instances, has_instances=True)
        record, found = _relate(record, indices, task.categories)
        if not problems:  # what is left of broken files says nothing of the others
            comparison += found
        if min(found.instances, found.segments) >= FEWEST and not found.matched:
            place = f'{task.panoptic_file}, image {task.image.id}'
            text = f'none of its {found.segments} segments of things is where one of its {found.instances} instances is'
            return Examined(None, task.image_file, (Problem(DISAGREEMENT, place, text), *problems), notes, comparison)
    return Examined(record, task.image_file, tuple(problems), notes, comparison)


def _relate(record: Record, indices: np.ndarray | None, categories: CategorySet) -> tuple[Record, Comparison]:
    """The record with its pairs and the panoptic segments of its instances, and how many instances have one."""
    instances, segments = record.instances, record.segments
    segment_rles = [] if indices is None else map_rles(indices, len(segments.id))
    things = np.flatnonzero((segments.category >= categories.num_stuff) & ~segments.crowd)
    thing_rles = [segment_rles[row] for row in things]
    own = np.where(instances.crowd, -1, instances.category + categories.num_stuff)
    rows = np.append(things, NO_ROW)  # NO_ROW, -1, is the last
    matched = rows[match_segments(instances.rles, own, thing_rles, segments.category[things])]
    by_box = np.full(len(instances.id), NO_ROW, np.int64)
    real = np.flatnonzero(~instances.crowd)
    by_box[real] = rows[match_segments_by_box(instances.box[real], rle_boxes(thing_rles))]
    pairs = related(instances.rles, instances.crowd, segment_rles, matched)
    ids = np.append(segments.id, NO_SEGMENT)  # NO_ROW is the last
    instances = dataclasses.replace(instances, segment=ids[matched], box_segment=ids[by_box])
    comparison = Comparison()
    if record.has_panoptic:
        both = [(instances.rles[row], segment_rles[matched[row]]) for row in np.flatnonzero(matched != NO_ROW)]
        near = [coco_mask.iou([mask], [segment], [0]).item() >= SAME_PLACE for mask, segment in both]
        comparison = Comparison(len(real), len(things), sum(near))
    return dataclasses.replace(record, instances=instances, pairs=pairs, has_relations=True), comparison


def _read_panoptic(
    task: ImageTask, panoptic: PanopticEntry, problems: list[Problem], notes: Notes
) -> tuple[Segments, np.ndarray | None]:
    """The segments, and the map of indices; None if there is a problem, or if it was not to be opened."""
    before = len(problems)
    path = task.panoptic_file.with_suffix('') / panoptic.file_name
    segments, areas = _read_segments(task, panoptic, problems, notes)
    if not task.opens_files:
        return segments, None
    place = f'{path}, image {task.image.id}'
    try:
        ids = decode_ids(read_bytes(path), task.size)
    except ValueError as error:
        problems.append(Problem('broken or missing PNG', place, f'panoptic PNG {error}'))
        return segments, None
    indices = index_ids(ids, segments.id)
    is_foreign = (indices == 0) & (ids != NO_SEGMENT) & (len(segments.id) == len(panoptic.segments_info))
    for unknown in np.unique(ids[is_foreign]).tolist():  # of entries that cannot be read that is said already
        hint = '; unlabelled pixels are 0, not 255' if unknown in WHITE else ''
        text = f'id {unknown} has {np.count_nonzero(ids == unknown)} pixels and no segment{hint}'
        problems.append(Problem('PNG id without a segment', place, text))
    pixels = np.bincount(indices.ravel(), minlength=len(segments.id) + 1)[1:]
    for absent in segments.id[pixels == 0]:
        where = f'{task.panoptic_file}, image {task.image.id}, segment {absent}'
        problems.append(Problem('segment without a pixel', where, f'{path.name} has no pixel of it'))
    if np.any((areas >= 0) & (areas != pixels)):
        notes[f'{task.panoptic_file.name}: the area of a segment is not that of its pixels, which count'] += 1
    return segments, indices if len(problems) == before else None


def _read_segments(
    task: ImageTask, panoptic: PanopticEntry, problems: list[Problem], notes: Notes
) -> tuple[Segments, np.ndarray]:
    """The segments, and the areas that the file says they have, -1 where it says nothing."""
    rows: dict[int, tuple[int, bool, float]] = {}
    place = f'{task.panoptic_file}, image {task.image.id}'
    field = f'image {task.image.id}, segments_info'
    found = decode_entries(task.panoptic_file, field, panoptic.segments_info, SegmentEntry, problems, notes)
    for _, entry in found:
        where = f'{place}, segment {entry.id}'
        if entry.id in rows:
            problems.append(Problem('doubled segment id', where, 'this id appears twice'))
            continue
        train_id, is_crowd = _train_id(entry.category_id, where, task.categories, problems), bool(entry.iscrowd)
        if is_crowd and train_id is not None and not task.categories.is_thing(train_id):
            name = task.categories.all[train_id].name
            problems.append(Problem('crowd of stuff', where, f'iscrowd is 1, but {name!r} is stuff'))
        # Its pixels have a segment, if one of no category: that is said once.
        area = -1.0 if entry.area is msgspec.UNSET else entry.area
        rows[entry.id] = (-1 if train_id is None else train_id, is_crowd, area)
    if len(rows) > MAX_SEGMENTS:
        problems.append(Problem('too many segments', place, f'{len(rows)}, at most {MAX_SEGMENTS}'))
    train_ids, crowd, areas = zip(*rows.values(), strict=True) if rows else ((), (), ())
    segments = Segments(np.array(list(rows), np.int64), np.array(train_ids, np.int32), np.array(crowd, bool))
    return segments, np.array(areas)


def _read_instances(
    task: ImageTask,
    entries: list[tuple[int, InstanceEntry]],
    problems: list[Problem],
    doubts: list[Problem],
    notes: Notes,
) -> InstanceAnnotations:
    """The instances without a problem that cover a pixel; the doubts are of boxes that are not their masks'."""
    rows: list[tuple[int, int, bool, np.ndarray, RLE]] = []
    for number, entry in entries:
        place = f'{task.instances_file}, annotations[{number}], image {task.image.id}, annotation {entry.id}'
        train_id = _train_id(entry.category_id, place, task.categories, problems)
        if train_id is not None and not task.categories.is_thing(train_id):
            text = f'category {entry.category_id} ({task.categories.all[train_id].name}) is stuff, not a thing'
            problems.append(Problem('thing and stuff mixed up', place, text))
            train_id = None
        try:
            mask = _mask(entry, task.size, notes)
        except Fault as error:
            problems.append(Problem(error.kind, place, str(error)))
            continue
        if mask is not None and train_id is not None:
            box, doubt = agreed_box(entry.bbox, mask, task.size)
            doubts += [Problem(doubt.kind, place, str(doubt), doubt.kind == DISAGREE)] if doubt else []
            rows.append((entry.id, train_id - task.categories.num_stuff, bool(entry.iscrowd), box, mask.rle))
    if not rows:
        return InstanceAnnotations()
    ids, classes, crowd, boxes, rles = zip(*rows, strict=True)
    return InstanceAnnotations(
        np.array(ids, np.int64), np.array(classes, np.int32), np.array(crowd), np.array(boxes, np.float32), list(rles)
    )


def _mask(entry: InstanceEntry, size: tuple[int, int], notes: Notes) -> Mask | None:
    """The mask; None for what is too small or too thin to cover a pixel."""
    mask = read_mask(entry.segmentation, size, notes)
    if is_normalised(mask):
        raise Fault('coordinates look like shares of the sides, 0..1', 'all of its coordinates are in 0..1')
    if coco_mask.area(mask.rle) > 0:
        return mask
    if not mask.is_outline and entry.bbox is not None and min(entry.bbox[2:]) > 1:
        raise Fault('empty mask', f'its mask covers no pixel, its box is {list(entry.bbox)}')
    notes[TOO_SMALL] += 1
    return None


def _train_id(category: int, place: str, categories: CategorySet, problems: list[Problem]) -> int | None:
    for train_id, entry in enumerate(categories.all):
        if entry.id == category:
            return train_id
    problems.append(Problem('unknown category', place, f'category id {category} is not in {categories.name}'))
    return None

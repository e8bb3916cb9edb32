"""Reading and checking annotations in the official COCO layout.

    SOURCE/annotations/instances_SPLIT.json
    SOURCE/annotations/panoptic_SPLIT.json and SOURCE/annotations/panoptic_SPLIT/*.png
    SOURCE/SPLIT/*.jpg

One of the two kinds of annotation may be missing. Every error names the file and the image, annotation or segment.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.categories import COCO
from sognet_jax.data.relations import RLE, UNDECIDED, decide_pairs, find_pairs, match_segments
from sognet_jax.data.schema import Instances, Pairs, Record, Segments, decode_ids, encode_ids

TRAIN_IDS = {category.id: index for index, category in enumerate(COCO.all)}


class AnnotationError(ValueError):
    """An annotation is broken; the message names the file and the place in it."""


@dataclasses.dataclass(frozen=True)
class CocoSplit:
    """The annotations of one split, indexed by image.

    Attributes:
        source: the folder in the official layout.
        name: the split, for example `val2017`.
        images: image records of either file, in order of their ids.
        instances: instance annotations by image id; None without that file.
        panoptic: panoptic annotation by image id; None without that file.
    """

    source: pathlib.Path
    name: str
    images: list[dict[str, Any]]
    instances: dict[int, list[dict[str, Any]]] | None
    panoptic: dict[int, dict[str, Any]] | None

    @property
    def instances_file(self) -> pathlib.Path:
        """The instance annotation file."""
        return annotation_files(self.source, self.name)[0]

    @property
    def panoptic_file(self) -> pathlib.Path:
        """The panoptic annotation file."""
        return annotation_files(self.source, self.name)[1]


def annotation_files(source: pathlib.Path, name: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the instance and the panoptic annotations of a split are."""
    folder = source / 'annotations'
    return folder / f'instances_{name}.json', folder / f'panoptic_{name}.json'


def read_split(source: str | pathlib.Path, name: str) -> CocoSplit:
    """Reads the annotation files of a split.

    Raises:
        AnnotationError: the folder or both files are missing, a file is no JSON or lacks a field, or ids collide.
    """
    source = pathlib.Path(source)
    if not source.is_dir():
        raise AnnotationError(f'data.source = {str(source)!r} is no folder; expected the official COCO layout there')
    empty = CocoSplit(source, name, [], None, None)
    images: dict[int, dict[str, Any]] = {}
    instances = panoptic = None
    if empty.instances_file.is_file():
        content = _read_json(empty.instances_file, ('images', 'annotations'))
        images |= {image['id']: image for image in content['images']}
        instances = _by_image(empty.instances_file, content['annotations'])
    if empty.panoptic_file.is_file():
        content = _read_json(empty.panoptic_file, ('images', 'annotations'))
        images = {image['id']: image for image in content['images']} | images
        panoptic = {annotation['image_id']: annotation for annotation in content['annotations']}
        if len(panoptic) != len(content['annotations']):
            raise AnnotationError(f'{empty.panoptic_file}: two annotations of one image')
    if instances is None and panoptic is None:
        raise AnnotationError(f'neither {empty.instances_file} nor {empty.panoptic_file} exists')
    ordered = [images[image_id] for image_id in sorted(images)]
    return CocoSplit(source, name, ordered, instances, panoptic)


def make_record(split: CocoSplit, index: int) -> Record:
    """Image `index` of a split with everything that is known of it.

    Raises:
        AnnotationError: a file is missing or broken, or the annotations contradict each other.
    """
    image = split.images[index]
    try:
        image_bytes, size = _read_image(split, image)
        ids, segments = _read_panoptic(split, image['id'], size)
        instances = _read_instances(split, image['id'], size)
    except KeyError as error:
        raise AnnotationError(
            f'{split.source}, {split.name}: an entry of image {image["id"]} has no {error}'
        ) from error
    if ids is not None and split.instances is not None:
        things = (segments.category >= COCO.num_stuff) & ~segments.crowd
        instances = dataclasses.replace(
            instances,
            segment=match_segments(
                instances.rles,
                np.where(instances.crowd, -1, instances.category + COCO.num_stuff),
                ids,
                segments.id[things],
                segments.category[things],
            ),
        )
    return Record(
        image_bytes=image_bytes,
        image_id=image['id'],
        panoptic_bytes=encode_ids(np.zeros((1, 1)) if ids is None else ids),
        has_instances=split.instances is not None,
        has_panoptic=ids is not None,
        segments=segments,
        instances=instances,
        pairs=_relate(instances, ids),
    )


def _relate(instances: Instances, ids: np.ndarray | None) -> Pairs:
    if not instances.rles:
        nothing = np.zeros(0, np.int32)
        return Pairs(nothing, nothing, nothing.astype(np.int8), nothing.astype(np.int8))
    pairs, _ = find_pairs(instances.rles, instances.crowd)
    unknown = np.full(len(pairs), UNDECIDED, np.int8)
    covered = unknown if ids is None else decide_pairs(instances.rles, pairs, ids, instances.segment)[0]
    return Pairs(pairs[:, 0], pairs[:, 1], covered, unknown)


def _read_json(path: pathlib.Path, fields: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError(f'{path} is not valid JSON: {error}') from error
    for field in fields:
        if not isinstance(content, dict) or field not in content:
            raise AnnotationError(f'{path} has no field {field!r}')
    return content


def _by_image(path: pathlib.Path, annotations: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    by_image: dict[int, list[dict[str, Any]]] = collections.defaultdict(list)
    seen: set[int] = set()
    for annotation in annotations:
        if annotation['id'] in seen:
            raise AnnotationError(f'{path}: annotation id {annotation["id"]} appears twice')
        seen.add(annotation['id'])
        by_image[annotation['image_id']].append(annotation)
    return by_image


def _read_image(split: CocoSplit, image: dict[str, Any]) -> tuple[bytes, tuple[int, int]]:
    """The encoded image and its height and width, after checking that all of it can be decoded."""
    path = split.source / split.name / image['file_name']
    if not path.is_file():
        raise AnnotationError(f'{path}: image {image["id"]} is missing')
    image_bytes = path.read_bytes()
    size = (image['height'], image['width'])
    if path.suffix.lower() in ('.jpg', '.jpeg') and not image_bytes.rstrip(b'\0').endswith(b'\xff\xd9'):
        raise AnnotationError(f'{path}: image {image["id"]} is truncated (no end-of-image marker)')
    decoded = cv2.imdecode(np.frombuffer(image_bytes, np.uint8), cv2.IMREAD_COLOR) if image_bytes else None
    if decoded is None:
        raise AnnotationError(f'{path}: image {image["id"]} cannot be decoded')
    if decoded.shape[:2] != size:
        raise AnnotationError(f'{path}: image {image["id"]} is {decoded.shape[:2]}, its record says {size}')
    return image_bytes, size


def _read_panoptic(split: CocoSplit, image_id: int, size: tuple[int, int]) -> tuple[np.ndarray | None, Segments]:
    """The map of segment ids and the segments of an image; None and no segments where it has no annotation."""
    annotation = (split.panoptic or {}).get(image_id)
    if annotation is None:
        return None, Segments(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, bool))
    path = split.panoptic_file.with_suffix('') / annotation['file_name']
    if not path.is_file():
        raise AnnotationError(f'{path}: panoptic PNG of image {image_id} is missing')
    try:
        ids = decode_ids(path.read_bytes())
    except ValueError as error:
        raise AnnotationError(f'{path}: panoptic PNG of image {image_id} cannot be decoded') from error
    if ids.shape != size:
        raise AnnotationError(f'{path}: panoptic PNG of image {image_id} is {ids.shape}, the image {size}')
    where = f'{split.panoptic_file}, image {image_id}'
    info = annotation['segments_info']
    segment_ids = np.array([segment['id'] for segment in info], np.int64)
    unknown = set(np.unique(ids)) - {0} - set(segment_ids)
    absent = set(segment_ids) - set(np.unique(ids))
    if unknown:
        raise AnnotationError(f'{where}: {path.name} has ids without a segment: {sorted(map(int, unknown))[:5]}')
    if absent:
        raise AnnotationError(f'{where}: segments without a pixel in {path.name}: {sorted(map(int, absent))[:5]}')
    categories = [_train_id(f'{where}, segment {segment["id"]}', segment['category_id']) for segment in info]
    crowd = np.array([bool(segment.get('iscrowd', 0)) for segment in info], bool)
    return ids, Segments(segment_ids, np.array(categories, np.int32), crowd)


def _read_instances(split: CocoSplit, image_id: int, size: tuple[int, int]) -> Instances:
    annotations = (split.instances or {}).get(image_id, [])
    categories, rles = [], []
    for annotation in annotations:
        where = f'{split.instances_file}, image {image_id}, annotation {annotation["id"]}'
        train_id = _train_id(where, annotation['category_id'])
        if train_id < COCO.num_stuff:
            raise AnnotationError(f'{where}: category {annotation["category_id"]} is stuff, not a thing')
        categories.append(train_id - COCO.num_stuff)
        rles.append(_to_rle(where, annotation['segmentation'], size))
    xywh = np.array([annotation['bbox'] for annotation in annotations], np.float32).reshape(-1, 4)
    return Instances(
        id=np.array([annotation['id'] for annotation in annotations], np.int64),
        category=np.array(categories, np.int32),
        crowd=np.array([bool(annotation.get('iscrowd', 0)) for annotation in annotations], bool),
        box=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        rles=rles,
        segment=np.zeros(len(annotations), np.int64),
    )


def _to_rle(where: str, segmentation: Any, size: tuple[int, int]) -> RLE:
    """Polygons, uncompressed or compressed run lengths -> compressed run lengths, by the COCO rasteriser."""
    try:
        if isinstance(segmentation, list):
            return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        if tuple(segmentation['size']) != size:
            raise ValueError(f'its size is {segmentation["size"]}, the image {size}')
        if isinstance(segmentation['counts'], list):
            return coco_mask.frPyObjects(segmentation, *size)
        return {'size': list(size), 'counts': segmentation['counts'].encode()}
    except Exception as error:
        raise AnnotationError(f'{where}: segmentation cannot be read: {error}') from error


def _train_id(where: str, category_id: int) -> int:
    if category_id not in TRAIN_IDS:
        raise AnnotationError(f'{where}: category id {category_id} is no COCO panoptic category')
    return TRAIN_IDS[category_id]

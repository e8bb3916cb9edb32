"""Results as files: what the servers of COCO and Cityscapes take, and what `eval.py --only_metrics` reads again.

    FOLDER/panoptic.json, FOLDER/panoptic/*.png   panoptic segments, in COCO's result format
    FOLDER/masks.json, FOLDER/boxes.json          the same detections by mask and by box, in COCO's result formats
    FOLDER/overlaps.json                          O of the segments that are instances, and of the annotated instances

For Cityscapes, image ids are names like `frankfurt_000000_000294` and categories are label ids, as its panoptic scripts
have them. Detections with both a mask and a box would be measured by the area of the box.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.cityscapes.files import IMAGE_ENDING
from sognet_jax.evaluation.instance_ap import Detections
from sognet_jax.evaluation.tally import ImageResult, related_instances
from sognet_jax.files import write_whole
from sognet_jax.id_maps import decode_ids, encode_ids
from sognet_jax.scene import Scene, Segment

PANOPTIC, MASKS, BOXES, OVERLAPS = 'panoptic.json', 'masks.json', 'boxes.json', 'overlaps.json'

Entry = dict[str, Any]


class ResultsError(ValueError):
    """Saved results are missing or broken; the message names the file and the image."""


def public_image_id(record: Record) -> int | str:
    """What a data set calls an image: a number in COCO, the beginning of the file's name in Cityscapes."""
    name = record.file_name
    return name.removesuffix(IMAGE_ENDING) if name.endswith(IMAGE_ENDING) else record.image_id


class ResultsWriter:
    """Collects results; the JSON files are written by `finish`, PNGs as they come.

    Args:
        folder: gets the files.
        categories: the classes.
        numbered: PNGs have the images' numbers in their names: other writers do not know what this one has called its.
    """

    def __init__(self, folder: pathlib.Path, categories: CategorySet, *, numbered: bool = False) -> None:
        self._folder, self._categories, self._numbered = folder, categories, numbered
        self._names: set[str] = set()
        self._panoptic: list[Entry] = []
        self._masks: list[Entry] = []
        self._boxes: list[Entry] = []
        self._overlaps: list[Entry] = []

    def add(self, record: Record, result: ImageResult) -> None:
        """Takes the result for one image."""
        image_id = public_image_id(record)
        file_name = self._png_name(record, image_id)
        write_whole(self._folder / 'panoptic' / file_name, encode_ids(result.scene.panoptic))
        ids = [category.id for category in self._categories.all]
        segments = [{'id': segment, 'category_id': ids[category]} for segment, category in result.scene.labels]
        self._panoptic.append({'image_id': image_id, 'file_name': file_name, 'segments_info': segments})
        self._add_detections(image_id, result.detections)
        entry: Entry = {'image_id': image_id, 'instances': result.scene.instance_ids}
        if result.true_relations is not None:
            entry |= {'O': _sparse(result.scene.relations), 'annotated_O': _sparse(result.true_relations)}
            entry['num_annotated'] = len(result.true_relations)
        self._overlaps.append(entry)

    def _png_name(self, record: Record, image_id: int | str) -> str:
        """The image's own name if no other image has it: those of different folders may be called the same."""
        name = f'{pathlib.PurePath(str(image_id) if isinstance(image_id, str) else record.file_name).stem}.png'
        if name in self._names or self._numbered and not isinstance(image_id, str):
            name = f'{pathlib.PurePath(name).stem}_{image_id}.png'
        self._names.add(name)
        return name

    def __iadd__(self, other: ResultsWriter) -> ResultsWriter:
        self._panoptic += other._panoptic
        self._masks += other._masks
        self._boxes += other._boxes
        self._overlaps += other._overlaps
        return self

    def finish(self) -> None:
        """Writes the JSON files, in the order of the images."""

        def text(entries: list[Entry], field: str = '') -> str:
            in_order = sorted(entries, key=lambda entry: entry['image_id'])
            return json.dumps({field: in_order} if field else in_order)

        write_whole(self._folder / PANOPTIC, text(self._panoptic, 'annotations'))
        write_whole(self._folder / MASKS, text(self._masks))
        write_whole(self._folder / BOXES, text(self._boxes))
        write_whole(self._folder / OVERLAPS, text(self._overlaps, 'images'))

    def _add_detections(self, image_id: int | str, found: Detections) -> None:
        boxes = np.asarray(found.box, np.float64).reshape(-1, 2, 2)
        boxes = np.concatenate([boxes[:, 0], boxes[:, 1] - boxes[:, 0]], axis=1).tolist()
        for category, score, box, rle in zip(
            found.category.tolist(), found.score.tolist(), boxes, found.rles, strict=True
        ):
            mask = {'size': list(rle['size']), 'counts': rle['counts'].decode()}
            category_id = self._categories.things[category].id
            common = {'image_id': image_id, 'category_id': category_id, 'score': score}
            self._masks.append(common | {'segmentation': mask})
            self._boxes.append(common | {'bbox': box})


def read_results(
    folder: pathlib.Path, categories: CategorySet, source: RecordSource, max_instances: int
) -> Iterator[tuple[int, Record, ImageResult]]:
    """The saved results of every image of a split, as `network_results` gives them, but for the semantic head's.

    Args:
        folder: what a `ResultsWriter` wrote.
        categories: the classes.
        source: the images.
        max_instances: so many annotated instances have relations.

    Raises:
        ResultsError: a file is missing or broken, has no result for an image, or one of another size.
    """
    panoptic = {entry['image_id']: entry for entry in _read(folder / PANOPTIC, 'annotations')}
    overlaps = {entry['image_id']: entry for entry in _read(folder / OVERLAPS, 'images')}
    detections: dict[int | str, list[Entry]] = {image_id: [] for image_id in panoptic}
    masks, boxes = _read(folder / MASKS), _read(folder / BOXES)
    if len(masks) != len(boxes):
        raise ResultsError(f'{folder}: {len(masks)} detections in {MASKS}, {len(boxes)} in {BOXES}')
    for mask, box in zip(masks, boxes, strict=True):
        detections.setdefault(mask['image_id'], []).append(box | mask)
    for index in tqdm(range(len(source)), desc='evaluate', unit='image'):
        record = source[index]
        image_id = public_image_id(record)
        for name, entries in ((PANOPTIC, panoptic), (OVERLAPS, overlaps)):
            if image_id not in entries:
                raise ResultsError(f'{folder / name}: has no result for image {image_id} ({record.file_name})')
        try:
            result = _result(folder, panoptic[image_id], overlaps[image_id], detections[image_id], categories)
        except KeyError as error:
            raise ResultsError(
                f'{folder}, image {image_id}: field or category {error} is missing or unknown'
            ) from error
        _require_fit(result, record, max_instances, f'{folder}, image {image_id}')
        yield index, record, result


def _require_fit(result: ImageResult, record: Record, max_instances: int, place: str) -> None:
    size = result.scene.panoptic.shape
    if size != record.size:
        raise ResultsError(f'{place}: the panoptic PNG has the size {size}, the image {record.size}')
    num_related = len(related_instances(record, max_instances))
    if result.true_relations is not None and len(result.true_relations) != num_related:
        raise ResultsError(
            f'{place}: O of {len(result.true_relations)} annotated instances, the data have {num_related} '
            '(config field data.max_instances)'
        )


def _result(
    folder: pathlib.Path, panoptic: Entry, overlaps: Entry, detections: list[Entry], categories: CategorySet
) -> ImageResult:
    path = folder / 'panoptic' / panoptic['file_name']
    try:
        ids = decode_ids(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ResultsError(f'{path}: {error}') from error
    train_ids = {category.id: train_id for train_id, category in enumerate(categories.all)}
    row_of = {segment: row for row, segment in enumerate(overlaps['instances'])}
    found = [
        Segment(entry['id'], train_ids[entry['category_id']], row_of.get(entry['id'], -1))
        for entry in panoptic['segments_info']
    ]
    relations, true_relations = np.zeros((len(row_of), len(row_of))), None
    if 'O' in overlaps:
        relations = _dense(overlaps['O'], len(row_of))
        true_relations = _dense(overlaps['annotated_O'], overlaps['num_annotated'])
    return ImageResult(
        scene=Scene(categories, ids, found, relations),
        true_relations=true_relations,
        detections=_read_detections(detections, {category.id: i for i, category in enumerate(categories.things)}),
        confusion=None,
    )


def _read_detections(entries: list[Entry], thing_of: dict[int, int]) -> Detections:
    boxes = np.array([entry['bbox'] for entry in entries], np.float64).reshape(-1, 2, 2)
    masks = [entry['segmentation'] for entry in entries]
    return Detections(
        category=np.array([thing_of[entry['category_id']] for entry in entries], np.int64),
        score=np.array([entry['score'] for entry in entries], np.float64),
        box=np.concatenate([boxes[:, 0], boxes[:, 0] + boxes[:, 1]], axis=1),
        rles=[mask | {'counts': mask['counts'].encode()} for mask in masks],
    )


def _read(path: pathlib.Path, field: str | None = None) -> list[Entry]:
    """The list of entries in a file, or in one field of it."""
    try:
        content = json.loads(path.read_bytes())
        entries = content if field is None else content[field]
        if not all('image_id' in entry for entry in entries):
            raise KeyError('image_id')
    except OSError as error:
        raise ResultsError(
            f'{path}: cannot be read ({error.strerror}); eval.py --save_predictions writes it'
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f'{path}: is no file of results ({type(error).__name__}: {error})') from error
    return entries


def _sparse(relations: np.ndarray) -> list[tuple[int, int, float]]:
    """(i, j, O_ij) of all that are not 0."""
    rows, columns = np.nonzero(relations)
    return list(zip(rows.tolist(), columns.tolist(), relations[rows, columns].tolist(), strict=True))


def _dense(entries: list[tuple[int, int, float]], count: int) -> np.ndarray:
    """The inverse of `_sparse`: `[count, count]`."""
    relations = np.zeros((count, count))
    for row, column, value in entries:
        relations[row, column] = value
    return relations

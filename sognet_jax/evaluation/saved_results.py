"""Results as files: what the servers of COCO and Cityscapes take, and what `eval.py --only_metrics` reads again.

    FOLDER/panoptic.json, FOLDER/panoptic/*.png   panoptic segments, in COCO's result format
    FOLDER/masks.json, FOLDER/boxes.json          the same detections by mask and by box, in COCO's result formats
    FOLDER/overlaps.json                          O of the segments that are instances, and of the annotated instances

For Cityscapes, image ids are names like `frankfurt_000000_000294` and categories are label ids, as its panoptic scripts
have them. Detections with both a mask and a box would be measured by the area of the box.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any, Self

import msgspec
import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.data.records.png import index_ids
from sognet_jax.data.records.relations import rle_as_text
from sognet_jax.data.records.schema import NO_SEGMENT, Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.cityscapes.files import IMAGE_ENDING
from sognet_jax.data.sources.coco.masks import read_runs
from sognet_jax.evaluation.instance_ap import Detections
from sognet_jax.evaluation.tally import ImageResult, related_instances
from sognet_jax.files import read_bytes, write_whole
from sognet_jax.id_maps import decode_ids, encode_ids
from sognet_jax.json_files import Notes, decode_entries, read_or_report
from sognet_jax.json_schemas import (
    BoxResult,
    EvaluatedImage,
    MaskResult,
    OverlapFile,
    Overlaps,
    PredictedSegment,
    ResultFile,
)
from sognet_jax.problems import InputError, Problem, raise_if_any
from sognet_jax.scene import Scene, Segment

PANOPTIC, MASKS, BOXES, OVERLAPS = 'panoptic.json', 'masks.json', 'boxes.json', 'overlaps.json'

Entry = dict[str, Any]

FORMATS: dict[str, tuple[Any, str, Any]] = {
    PANOPTIC: (ResultFile, 'annotations', EvaluatedImage),
    OVERLAPS: (OverlapFile, 'images', Overlaps),
    MASKS: (list[msgspec.Raw], '', MaskResult),
    BOXES: (list[msgspec.Raw], '', BoxResult),
}
"""Of each file: its type, the field with its entries, and their type."""


def public_image_id(record: Record) -> int | str:
    """What a data set calls an image: a number in COCO, the beginning of the file's name in Cityscapes."""
    name = record.file_name
    return name.removesuffix(IMAGE_ENDING) if name.endswith(IMAGE_ENDING) else record.image_id


class ResultsWriter:
    """Collects results; the JSON files are written by `finish`, PNGs as they come.

    Where others write beside it, it is `numbered`: PNGs have the images' numbers in their names.
    """

    def __init__(self, folder: pathlib.Path, categories: CategorySet, *, numbered: bool = False) -> None:
        self._folder, self._categories, self._numbered = folder, categories, numbered
        self._names: set[str] = set()
        self._entries: dict[str, list[Entry]] = {name: [] for name in FORMATS}
        for name in FORMATS:  # an earlier evaluation's, which would be of other PNGs
            (folder / name).unlink(missing_ok=True)

    def add(self, record: Record, result: ImageResult) -> None:
        """Takes the result for one image."""
        image_id = public_image_id(record)
        file_name = self._png_name(record, image_id)
        write_whole(self._folder / 'panoptic' / file_name, encode_ids(result.scene.panoptic))
        ids = [category.id for category in self._categories.all]
        segments = [{'id': segment, 'category_id': ids[category]} for segment, category in result.scene.labels]
        self._entries[PANOPTIC].append({'image_id': image_id, 'file_name': file_name, 'segments_info': segments})
        self._add_detections(image_id, result.detections)
        entry: Entry = {'image_id': image_id, 'instances': result.scene.instance_ids}
        if result.true_relations is not None:
            entry |= {'O': _sparse(result.scene.relations), 'annotated_O': _sparse(result.true_relations)}
            entry['num_annotated'] = len(result.true_relations)
        self._entries[OVERLAPS].append(entry)

    def _png_name(self, record: Record, image_id: int | str) -> str:
        """The image's own name if no other image has it: those of different folders may be called the same."""
        name = f'{pathlib.PurePath(str(image_id) if isinstance(image_id, str) else record.file_name).stem}.png'
        if name in self._names or self._numbered and not isinstance(image_id, str):
            name = f'{pathlib.PurePath(name).stem}_{image_id}.png'
        self._names.add(name)
        return name

    def __iadd__(self, other: Self) -> Self:
        for name, entries in other._entries.items():
            self._entries[name] += entries
        return self

    def finish(self) -> None:
        """Writes the JSON files, in the order of the images."""
        for name, (_, field, _) in FORMATS.items():
            in_order = sorted(self._entries[name], key=lambda entry: entry['image_id'])
            write_whole(self._folder / name, json.dumps({field: in_order} if field else in_order))

    def _add_detections(self, image_id: int | str, found: Detections) -> None:
        boxes = np.asarray(found.box, np.float64).reshape(-1, 2, 2)
        boxes = np.concatenate([boxes[:, 0], boxes[:, 1] - boxes[:, 0]], axis=1).tolist()
        for category, score, box, rle in zip(
            found.category.tolist(), found.score.tolist(), boxes, found.rles, strict=True
        ):
            category_id = self._categories.things[category].id
            common = {'image_id': image_id, 'category_id': category_id, 'score': score}
            self._entries[MASKS].append(common | {'segmentation': rle_as_text(rle)})
            self._entries[BOXES].append(common | {'bbox': box})


def read_results(
    folder: pathlib.Path, categories: CategorySet, source: RecordSource, max_instances: int
) -> Iterator[tuple[int, Record, ImageResult]]:
    """The saved results of every image of a split, as `network_results` gives them, but for the semantic head's;
    relations are those of at most so many annotated instances.

    Raises:
        InputError: a file is missing or broken, has no result for an image, or one of another size.
    """
    problems: list[Problem] = []
    panoptic, overlaps, masks, boxes = (
        _entries(folder / name, problems) for name in (PANOPTIC, OVERLAPS, MASKS, BOXES)
    )
    if problems:
        raise InputError(problems, 'eval.py --save_predictions writes such files')
    panoptic_of, overlaps_of = ({entry.image_id: entry for entry in entries} for entries in (panoptic, overlaps))
    if (len(panoptic_of), len(overlaps_of)) != (len(panoptic), len(overlaps)):
        text = f'{PANOPTIC} or {OVERLAPS} has an image twice'
        raise InputError([Problem('doubled image', str(folder), text)])
    if len(masks) != len(boxes):
        text = f'{len(masks)} detections in {MASKS}, {len(boxes)} in {BOXES}'
        raise InputError([Problem('detections that do not belong together', str(folder), text)])
    detections: dict[int | str, list[tuple[MaskResult, BoxResult]]] = {image_id: [] for image_id in panoptic_of}
    for index, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        if (mask.image_id, mask.category_id, mask.score) != (box.image_id, box.category_id, box.score):
            text = f'entry {index} of {MASKS} and of {BOXES} are different detections'
            raise InputError([Problem('detections that do not belong together', str(folder), text)])
        detections.setdefault(mask.image_id, []).append((mask, box))
    for index in tqdm(range(len(source)), desc='evaluate', unit='image'):
        record = source[index]
        image_id = public_image_id(record)
        place = f'{folder}, image {image_id} ({record.file_name})'
        for name, entries in ((PANOPTIC, panoptic_of), (OVERLAPS, overlaps_of)):
            if image_id not in entries:
                raise InputError([Problem('no result', place, f'{name} has none')])
        try:
            scene = _scene(folder, panoptic_of[image_id], overlaps_of[image_id], record.size, categories)
            result = ImageResult(
                scene=scene,
                true_relations=_true_relations(overlaps_of[image_id], len(related_instances(record, max_instances))),
                detections=_detections(detections[image_id], record.size, categories),
                confusion=None,
            )
        except InputError:
            raise
        except ValueError as error:
            raise InputError([Problem('broken result', place, str(error))]) from error
        yield index, record, result


def _entries(path: pathlib.Path, problems: list[Problem]) -> list[Any]:
    """The entries of a file of results."""
    of_file, field, of_entry = FORMATS[path.name]
    content = read_or_report(path, of_file, problems)
    if content is None:
        return []
    raws = getattr(content, field) if field else content
    return [entry for _, entry in decode_entries(path, field or 'detections', raws, of_entry, problems, Notes())]


def _scene(
    folder: pathlib.Path, panoptic: EvaluatedImage, overlaps: Overlaps, size: tuple[int, int], categories: CategorySet
) -> Scene:
    problems: list[Problem] = []
    train_ids = {category.id: train_id for train_id, category in enumerate(categories.all)}
    row_of = {segment: row for row, segment in enumerate(overlaps.instances)}
    field = f'image {panoptic.image_id}, segments_info'
    found = []
    for _, entry in decode_entries(
        folder / PANOPTIC, field, panoptic.segments_info, PredictedSegment, problems, Notes()
    ):
        if entry.category_id not in train_ids:
            raise ValueError(f'category {entry.category_id} of segment {entry.id} is not in {categories.name}')
        found.append(Segment(entry.id, train_ids[entry.category_id], row_of.pop(entry.id, -1)))
    raise_if_any(problems)
    if row_of:
        raise ValueError(f'{OVERLAPS} has instances that are no segments: {list(row_of)[:5]}')
    try:
        ids = decode_ids(read_bytes(folder / 'panoptic' / panoptic.file_name), size)
    except ValueError as error:
        raise ValueError(f'panoptic/{panoptic.file_name} {error}') from error
    segment_ids = np.array([segment.id for segment in found], np.int64)
    if len(set(segment_ids.tolist())) < len(found):
        raise ValueError(f'{PANOPTIC} lists a segment twice: {sorted(segment_ids.tolist())[:20]}')
    indices = index_ids(ids, segment_ids)
    foreign = ids[(indices == 0) & (ids != NO_SEGMENT)]
    absent = segment_ids[np.bincount(indices.ravel(), minlength=len(found) + 1)[1:] == 0]
    for wrong, text in ((foreign, 'has ids that are no segments'), (absent, 'has no pixel of segments')):
        if len(wrong):
            raise ValueError(f'panoptic/{panoptic.file_name} {text}: {np.unique(wrong)[:5].tolist()}')
    return Scene(categories, ids, found, _dense(overlaps.O or [], len(overlaps.instances)))


def _true_relations(overlaps: Overlaps, num_related: int) -> np.ndarray | None:
    if overlaps.O is None:
        return None
    if overlaps.num_annotated != num_related:
        raise ValueError(
            f'O of {overlaps.num_annotated} annotated instances, the data have {num_related} '
            '(config field data.max_instances)'
        )
    return _dense(overlaps.annotated_O, num_related)


def _detections(
    entries: list[tuple[MaskResult, BoxResult]], size: tuple[int, int], categories: CategorySet
) -> Detections:
    thing_of = {category.id: index for index, category in enumerate(categories.things)}
    unknown = next((mask.category_id for mask, _ in entries if mask.category_id not in thing_of), None)
    if unknown is not None:
        raise ValueError(f'category {unknown} of a detection is no thing of {categories.name}')
    boxes = np.array([box.bbox for _, box in entries], np.float64).reshape(-1, 2, 2)
    return Detections(
        category=np.array([thing_of[mask.category_id] for mask, _ in entries], np.int64),
        score=np.array([mask.score for mask, _ in entries], np.float64),
        box=np.concatenate([boxes[:, 0], boxes[:, 0] + boxes[:, 1]], axis=1),
        rles=[read_runs(mask.segmentation, size) for mask, _ in entries],
    )


def _sparse(relations: np.ndarray) -> list[tuple[int, int, float]]:
    """(i, j, O_ij) of all that are not 0."""
    rows, columns = np.nonzero(relations)
    return list(zip(rows.tolist(), columns.tolist(), relations[rows, columns].tolist(), strict=True))


def _dense(entries: list[tuple[int, int, float]], count: int) -> np.ndarray:
    """The inverse of `_sparse`: `[count, count]`."""
    relations = np.zeros((count, count))
    for row, column, value in entries:
        if max(row, column) >= count:
            raise ValueError(f'{OVERLAPS} has a relation of the instances {row} and {column}, there are {count}')
        relations[row, column] = value
    return relations

"""Reading and checking COCO's panoptic JSON: which PNGs belong together, and what their segments are.

{"categories": [{"id", "name", "isthing"}],
 "annotations": [{"image_id", "file_name", "segments_info": [{"id", "category_id", "iscrowd", "area"}]}]}

Predictions need no categories, and their segments neither `iscrowd` nor `area`. Image ids may be strings, as those of
Cityscapes are.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sognet_jax.id_maps import NUM_IDS

LISTED_OF_A_KIND = 3
"""So many problems of one kind are listed by an error."""

LISTED_IMAGES = 5

MAX_AREA = 2.0**53
"""Whole numbers up to here are floats without rounding."""

ImageId = int | str
Entry = dict[str, Any]
Fields = Mapping[str, type | tuple[type, ...]]

CATEGORY_FIELDS: Fields = {'id': int, 'isthing': int}
ANNOTATION_FIELDS: Fields = {'image_id': (int, str), 'file_name': str, 'segments_info': list}
PREDICTED_FIELDS: Fields = {'id': int, 'category_id': int}
TRUTH_FIELDS: Fields = {**PREDICTED_FIELDS, 'iscrowd': int, 'area': (int, float)}


class FileProblem(NamedTuple):
    """One fault: a few words that are the same for all of its kind, and what is wrong where."""

    kind: str
    text: str


class PanopticFileError(ValueError):
    """Files that cannot be evaluated. The message names file, image and segment, and has a line for each kind of fault.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        self.problems = tuple(problems)
        by_kind: dict[str, list[str]] = collections.defaultdict(list)
        for problem in self.problems:
            by_kind[problem.kind].append(problem.text)
        super().__init__('\n'.join(_line(kind, texts) for kind, texts in by_kind.items()))

    def __reduce__(self) -> tuple:  # exceptions that come from other processes are pickled by their arguments
        return type(self), (self.problems,)


class FileCategory(NamedTuple):
    """A category of the ground truth's JSON."""

    id: int
    name: str
    is_thing: bool


@dataclasses.dataclass(frozen=True)
class PanopticFiles:
    """Where ground truth and prediction are: a JSON file and a folder of PNGs each."""

    truth_json: pathlib.Path
    truth_folder: pathlib.Path
    predicted_json: pathlib.Path
    predicted_folder: pathlib.Path


@dataclasses.dataclass(frozen=True)
class PanopticPair:
    """Annotation and prediction of one image.

    Attributes:
        image_id: as the JSON files have it.
        truth_png: segment ids of the ground truth.
        truth_segments: (id, place of its category in the list of categories, is crowd) of each segment.
        truth_areas: of each segment, in pixels, as the JSON file says.
        predicted_png: predicted segment ids.
        predicted_segments: (id, place of its category) of each segment.
    """

    image_id: ImageId
    truth_png: pathlib.Path
    truth_segments: list[tuple[int, int, bool]]
    truth_areas: list[float]
    predicted_png: pathlib.Path
    predicted_segments: list[tuple[int, int]]


class PanopticPairs(NamedTuple):
    """All pairs in the order of the ground truth, its categories, and predicted images that it does not have."""

    categories: tuple[FileCategory, ...]
    pairs: list[PanopticPair]
    without_truth: list[ImageId]


def read_pairs(files: PanopticFiles) -> PanopticPairs:
    """Reads and checks both JSON files. PNGs are not touched.

    Raises:
        PanopticFileError: with everything that is wrong.
    """
    problems: list[FileProblem] = []
    truth, prediction = (_read_json(path, problems) for path in (files.truth_json, files.predicted_json))
    for folder in (files.truth_folder, files.predicted_folder):
        if not folder.is_dir():
            problems.append(FileProblem('missing folder', f'{folder}: no such folder of PNGs'))
    raise_if_any(problems)
    categories = _categories(truth, files.truth_json, problems)
    raise_if_any(problems)  # without categories, every segment would be unknown
    truths = _entries(truth, files.truth_json, problems)
    predictions = _entries(prediction, files.predicted_json, problems)
    missing = [image_id for image_id in truths if image_id not in predictions]
    if missing:
        text = f'{files.predicted_json}: no prediction of {len(missing)} of {len(truths)} images: {first_few(missing)}'
        problems.append(FileProblem('missing predictions', text))
    pairs = _pairs(files, categories, truths, predictions, problems)
    raise_if_any(problems)
    return PanopticPairs(categories, pairs, [image_id for image_id in predictions if image_id not in truths])


def raise_if_any(problems: Sequence[FileProblem]) -> None:
    """Raises them together, if there are any."""
    if problems:
        raise PanopticFileError(problems)


def first_few(values: Sequence[Any]) -> str:
    """A list of values for a message, shortened."""
    rest = [f'and {len(values) - LISTED_IMAGES} more'] if len(values) > LISTED_IMAGES else []
    return ', '.join([*map(str, values[:LISTED_IMAGES]), *rest])


def _read_json(path: pathlib.Path, problems: list[FileProblem]) -> Entry:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        problems.append(FileProblem('missing JSON', f'{path}: cannot be read: {error.strerror}'))
    except (ValueError, RecursionError) as error:
        problems.append(FileProblem('broken JSON', f'{path}: is not valid JSON: {error}'))
    else:
        if isinstance(content, dict):
            return content
        problems.append(FileProblem('broken JSON', f'{path}: is a {type(content).__name__}, expected an object'))
    return {}


def _categories(content: Entry, path: pathlib.Path, problems: list[FileProblem]) -> tuple[FileCategory, ...]:
    entries = content.get('categories')
    if not isinstance(entries, list) or not entries:
        problems.append(FileProblem('missing categories', f"{path}: has no list 'categories'"))
        return ()
    found: dict[int, FileCategory] = {}
    for index, entry in enumerate(entries):
        fault = _fault(entry, CATEGORY_FIELDS)
        if fault is None and entry['id'] in found:
            fault = f'has the id {entry["id"]}, which an earlier one has'
        if fault:
            problems.append(FileProblem('broken category', f'{path}: category {index} of the list {fault}'))
            continue
        found[entry['id']] = FileCategory(entry['id'], str(entry.get('name', entry['id'])), entry['isthing'] == 1)
    return tuple(found.values())


def _entries(content: Entry, path: pathlib.Path, problems: list[FileProblem]) -> dict[ImageId, Entry | None]:
    """The annotation of each image; None where it is broken."""
    entries = content.get('annotations')
    if not isinstance(entries, list) or not entries:
        problems.append(FileProblem('missing annotations', f"{path}: has no list 'annotations', or an empty one"))
        return {}
    found: dict[ImageId, Entry | None] = {}
    for index, entry in enumerate(entries):
        fault = _fault(entry, ANNOTATION_FIELDS)
        if fault:
            image_id = entry.get('image_id') if isinstance(entry, dict) else None
            image = '' if image_id is None else f' (image {image_id})'
            problems.append(FileProblem('broken annotation', f'{path}: annotation {index} of the list{image} {fault}'))
            if isinstance(image_id, int | str):
                found.setdefault(image_id, None)
        elif entry['image_id'] in found:
            problems.append(FileProblem('doubled image', f'{path}: image {entry["image_id"]} has several annotations'))
        else:
            found[entry['image_id']] = entry
    return found


def _pairs(
    files: PanopticFiles,
    categories: Sequence[FileCategory],
    truths: Mapping[ImageId, Entry | None],
    predictions: Mapping[ImageId, Entry | None],
    problems: list[FileProblem],
) -> list[PanopticPair]:
    """The images that have both; the segments of all images of the ground truth are checked."""
    place_of = {category.id: place for place, category in enumerate(categories)}
    pairs = []
    for image_id, truth in truths.items():
        predicted = predictions.get(image_id)
        place, predicted_place = (f'{path}: image {image_id}' for path in (files.truth_json, files.predicted_json))
        segments = _segments(truth, place, TRUTH_FIELDS, place_of, problems)
        found = _segments(predicted, predicted_place, PREDICTED_FIELDS, place_of, problems)
        if truth and predicted:
            pair = PanopticPair(
                image_id,
                files.truth_folder / truth['file_name'],
                [(entry['id'], place_of[entry['category_id']], entry['iscrowd'] == 1) for entry in segments],
                [entry['area'] for entry in segments],
                files.predicted_folder / predicted['file_name'],
                [(entry['id'], place_of[entry['category_id']]) for entry in found],
            )
            pairs.append(pair)
    return pairs


def _segments(
    entry: Entry | None,
    place: str,
    fields: Fields,
    place_of: Mapping[int, int],
    problems: list[FileProblem],
) -> list[Entry]:
    """The segments of an annotation that are sound."""
    found: dict[int, Entry] = {}
    for index, segment in enumerate(entry['segments_info'] if entry else ()):
        fault = _fault(segment, fields)
        if fault:
            problems.append(FileProblem('broken segment', f'{place}: segment {index} of the list {fault}'))
            continue
        segment_id, category, area = segment['id'], segment['category_id'], segment['area'] if 'area' in fields else 0
        where = f'{place}: segment {segment_id}'
        if not 0 < segment_id < NUM_IDS:
            problems.append(FileProblem('broken segment id', f'{where}: ids must be in 1..{NUM_IDS - 1} (0 is void)'))
        elif segment_id in found:
            problems.append(FileProblem('doubled segment id', f'{where}: is listed twice'))
        elif category not in place_of:
            problems.append(
                FileProblem('unknown category', f'{where}: category_id {category} is not in the ground truth')
            )
        elif not 0 <= area < MAX_AREA:
            problems.append(FileProblem('broken area', f'{where}: its area is {area}'))
        else:
            found[segment_id] = segment
    return list(found.values())


def _fault(entry: Any, fields: Fields) -> str | None:
    """What is wrong with the fields of an object, if anything."""
    if not isinstance(entry, dict):
        return f'is {entry!r:.40}, expected an object'
    for name, types in fields.items():
        if name not in entry:
            return f'has no field {name!r}'
        if not isinstance(entry[name], types):
            expected = ' or '.join(kind.__name__ for kind in (types if isinstance(types, tuple) else (types,)))
            return f'has the {name} {entry[name]!r:.40}, expected {expected}'
    return None


def _line(kind: str, texts: Sequence[str]) -> str:
    """All problems of a kind, shortened."""
    if len(texts) == 1:
        return texts[0]
    rest = [f'and {len(texts) - LISTED_OF_A_KIND} more'] if len(texts) > LISTED_OF_A_KIND else []
    return f'{kind} ({len(texts)}): ' + '; '.join([*texts[:LISTED_OF_A_KIND], *rest])

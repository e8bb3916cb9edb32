"""Reading and checking COCO's panoptic JSON: which PNGs belong together, and what their segments are.

{"categories": [{"id", "name", "isthing"}],
 "annotations": [{"image_id", "file_name", "segments_info": [{"id", "category_id", "iscrowd", "area"}]}]}

Predictions need no categories, and their segments neither `iscrowd` nor `area`. Image ids may be strings, as those of
Cityscapes are.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from sognet_jax.data.sources.coco.files import require_names_once
from sognet_jax.json_files import Notes, decode_entries, read_or_report
from sognet_jax.json_schemas import (
    EvaluatedFile,
    EvaluatedImage,
    ImageId,
    PredictedSegment,
    TrueCategory,
    TrueFile,
    TrueSegment,
)
from sognet_jax.problems import Problem, raise_if_any

S = TypeVar('S', bound=PredictedSegment)

LISTED_IMAGES = 5


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
    """Annotation and prediction of one image."""

    image_id: ImageId
    truth_png: pathlib.Path
    truth_segments: list[tuple[int, int, bool]]  # (id, place of its category in the list, is crowd) of each
    truth_areas: list[float]  # of each segment, in pixels, as the JSON file says
    predicted_png: pathlib.Path
    predicted_segments: list[tuple[int, int]]  # (id, place of its category) of each


class PanopticPairs(NamedTuple):
    """All pairs in the order of the ground truth, its categories, and predicted images that it does not have."""

    categories: tuple[FileCategory, ...]
    pairs: list[PanopticPair]
    without_truth: list[ImageId]


def read_pairs(files: PanopticFiles) -> PanopticPairs:
    """Reads and checks both JSON files. PNGs are not touched.

    Raises:
        InputError: with everything that is wrong.
    """
    problems: list[Problem] = []
    truth = read_or_report(files.truth_json, TrueFile, problems)
    prediction = read_or_report(files.predicted_json, EvaluatedFile, problems)
    for folder in (files.truth_folder, files.predicted_folder):
        if not folder.is_dir():
            problems.append(Problem('missing folder', str(folder), 'no such folder of PNGs'))
    raise_if_any(problems)
    assert truth is not None and prediction is not None
    categories = _categories(truth.categories, files.truth_json, problems)
    raise_if_any(problems)  # without categories, every segment would be unknown
    truths = _images(truth.annotations, files.truth_json, problems)
    predictions = _images(prediction.annotations, files.predicted_json, problems)
    missing = [image_id for image_id in truths if image_id not in predictions]
    if missing and len(predictions) == len(prediction.annotations):
        text = f'no prediction of {len(missing)} of {len(truths)} images: {first_few([*map(repr, missing)])}'
        problems.append(Problem('missing predictions', str(files.predicted_json), text))
    require_names_once(files.truth_folder, truths, problems)
    require_names_once(files.predicted_folder, {key: of for key, of in predictions.items() if key in truths}, problems)
    pairs = _pairs(files, categories, truths, predictions, problems)
    raise_if_any(problems)
    return PanopticPairs(categories, pairs, [image_id for image_id in predictions if image_id not in truths])


def first_few(values: Sequence[Any]) -> str:
    """A list of values for a message, shortened."""
    rest = [f'and {len(values) - LISTED_IMAGES} more'] if len(values) > LISTED_IMAGES else []
    return ', '.join([*map(str, values[:LISTED_IMAGES]), *rest])


def _categories(raws: Sequence[msgspec.Raw], path: pathlib.Path, problems: list[Problem]) -> tuple[FileCategory, ...]:
    found: dict[int, FileCategory] = {}
    for index, entry in decode_entries(path, 'categories', raws, TrueCategory, problems, Notes()):
        if entry.id in found:
            text = f'has the id {entry.id}, which an earlier one has'
            problems.append(Problem('broken category', f'{path}, categories[{index}]', text))
        found[entry.id] = FileCategory(entry.id, str(entry.name or entry.id), bool(entry.isthing))
    return tuple(found.values())


def _images(raws: Sequence[msgspec.Raw], path: pathlib.Path, problems: list[Problem]) -> dict[ImageId, EvaluatedImage]:
    """The annotation of each image."""
    found: dict[ImageId, EvaluatedImage] = {}
    for _, entry in decode_entries(path, 'annotations', raws, EvaluatedImage, problems, Notes()):
        if entry.image_id in found:
            problems.append(Problem('doubled image', f'{path}, image {entry.image_id}', 'has several annotations'))
        found[entry.image_id] = entry
    return found


def _pairs(
    files: PanopticFiles,
    categories: Sequence[FileCategory],
    truths: Mapping[ImageId, EvaluatedImage],
    predictions: Mapping[ImageId, EvaluatedImage],
    problems: list[Problem],
) -> list[PanopticPair]:
    """The images that have both; the segments of all images of the ground truth are checked."""
    place_of = {category.id: place for place, category in enumerate(categories)}
    pairs = []
    for image_id, truth in truths.items():
        predicted = predictions.get(image_id)
        segments = _segments(truth, files.truth_json, TrueSegment, place_of, problems)
        found = _segments(predicted, files.predicted_json, PredictedSegment, place_of, problems) if predicted else []
        if predicted:
            pair = PanopticPair(
                image_id,
                files.truth_folder / truth.file_name,
                [(entry.id, place_of[entry.category_id], bool(entry.iscrowd)) for entry in segments],
                [entry.area for entry in segments],
                files.predicted_folder / predicted.file_name,
                [(entry.id, place_of[entry.category_id]) for entry in found],
            )
            pairs.append(pair)
    return pairs


def _segments(
    image: EvaluatedImage, path: pathlib.Path, kind: type[S], place_of: Mapping[int, int], problems: list[Problem]
) -> list[S]:
    """The segments of an annotation that are sound."""
    found: dict[int, S] = {}
    place = f'image {image.image_id}, segments_info'
    for index, segment in decode_entries(path, place, image.segments_info, kind, problems, Notes()):
        where = f'{path}, {place}[{index}]'
        if segment.id in found:
            problems.append(Problem('doubled segment id', where, f'id {segment.id} is listed twice'))
        elif segment.category_id not in place_of:
            text = f'category_id {segment.category_id} is not in the ground truth'
            problems.append(Problem('unknown category', where, text))
        else:
            found[segment.id] = segment
    return list(found.values())

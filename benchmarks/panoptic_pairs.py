"""Ground truth and predictions in COCO's panoptic format, made from real annotations, to measure evaluation with."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from sognet_jax.evaluation.panoptic_files.scoring import read_ids

SIZE = (480, 640)
DRAWN_SCENES = 32

OUTLINE_SHIFT = 4.0
"""Outlines move by so many pixels (standard deviation), smoothly over the image."""

LEFT_OUT, MERGED, RENAMED = 0.12, 0.08, 0.12
"""Shares of the segments."""


class _Annotated(NamedTuple):
    """An image of a source: its map of segment ids and, by id, category and crowd flag."""

    ids: np.ndarray
    segments: dict[int, tuple[int, int]]


def write_pairs(folder: str, sources: Sequence[str], images: int, distinct: int) -> dict[str, Any]:
    """Writes gt.json, gt/, pred.json and pred/.

    Args:
        folder: where they go.
        sources: folders in COCO's layout with panoptic annotations; scenes are drawn if there are none.
        images: so many images the JSON files have.
        distinct: so many different pairs of PNGs there are.

    Returns:
        What was written, for a record of a measurement.

    Raises:
        ValueError: a source has no panoptic annotations.
    """
    root = pathlib.Path(folder)
    if not sources:
        # It brings jax along, which takes longer than a small measurement.
        from benchmarks.drawn_coco import draw_folder

        draw_folder(root / 'drawn', 'drawn', DRAWN_SCENES)
    annotated, categories = _read_sources([*map(pathlib.Path, sources)] or [root / 'drawn'])
    for name in ('gt', 'pred'):
        (root / name).mkdir()
    truths, predictions = [], []
    for index in range(distinct):
        rng = np.random.default_rng(index)
        truth = _varied(annotated[index % len(annotated)], rng)
        prediction = _predicted(truth, [category['id'] for category in categories], rng)
        for name, (ids, _) in (('gt', truth), ('pred', prediction)):
            Image.fromarray(_colors(ids)).save(root / name / f'{index}.png')
        truths.append(_entries(truth))
        predictions.append(_entries(prediction))
    for name, entries in (('gt', truths), ('pred', predictions)):
        pngs = [{'file_name': f'{index}.png', 'segments_info': segments} for index, segments in enumerate(entries)]
        annotations = [{'image_id': image_id} | pngs[image_id % distinct] for image_id in range(images)]
        content = {'annotations': annotations, 'categories': categories}
        (root / f'{name}.json').write_text(json.dumps(content))
    return {
        'images': images,
        'different_pairs': distinct,
        'data': ', '.join(pathlib.Path(source).name for source in sources) or 'drawn scenes',
        'true_segments_per_image': sum(map(len, truths)) / distinct,
        'predicted_segments_per_image': sum(map(len, predictions)) / distinct,
    }


def _read_sources(sources: Sequence[pathlib.Path]) -> tuple[list[_Annotated], list[dict[str, Any]]]:
    annotated, categories = [], {}
    for source in sources:
        files = sorted(source.glob('annotations/panoptic_*.json'))
        if not files:
            raise ValueError(f'{source}: no annotations/panoptic_*.json')
        for file in files:
            content = json.loads(file.read_text())
            categories |= {category['id']: category for category in content['categories']}
            for entry in content['annotations']:
                ids = read_ids(file.with_suffix('') / entry['file_name'])
                segments = {
                    segment['id']: (segment['category_id'], segment['iscrowd']) for segment in entry['segments_info']
                }
                annotated.append(_Annotated(ids, segments))
    return annotated, list(categories.values())


def _varied(image: _Annotated, rng: np.random.Generator) -> _Annotated:
    """A part of the image, maybe mirrored, at `SIZE`."""
    ids = image.ids if image.ids.shape[0] <= image.ids.shape[1] else image.ids.T
    height, width = (round(side * rng.uniform(0.75, 1)) for side in ids.shape)
    top, left = rng.integers(ids.shape[0] - height + 1), rng.integers(ids.shape[1] - width + 1)
    ids = ids[top : top + height, left : left + width]
    ids = ids[:, ::-1] if rng.random() < 0.5 else ids
    # Ids fit into floats exactly, and OpenCV resizes those.
    ids = cv2.resize(np.ascontiguousarray(ids, np.float32), SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    return _with_segments(ids.astype(np.uint32), image.segments)


def _predicted(truth: _Annotated, categories: Sequence[int], rng: np.random.Generator) -> _Annotated:
    """The map with moved outlines and other ids, some segments left out, merged or renamed; without crowd."""
    shifts = [cv2.resize(rng.normal(0, OUTLINE_SHIFT, (8, 8)), SIZE[::-1], interpolation=cv2.INTER_CUBIC) for _ in 'xy']
    y, x = np.indices(SIZE)
    moved = [(place + shift).astype(np.float32) for place, shift in zip((x, y), shifts, strict=True)]
    ids = cv2.remap(truth.ids.astype(np.float32), *moved, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    old, place = np.unique(ids.astype(np.int64), return_inverse=True)
    new = rng.choice(2**24 - 1, len(old), replace=False) + 1
    segments = {}
    for index, segment_id in enumerate(old.tolist()):
        if segment_id == 0 or rng.random() < LEFT_OUT:
            new[index] = 0
            continue
        if index and new[index - 1] and rng.random() < MERGED:
            new[index] = new[index - 1]
        category = truth.segments[segment_id][0]
        renamed = rng.random() < RENAMED
        segments[int(new[index])] = (int(rng.choice(categories)) if renamed else category, 0)
    return _with_segments(new[place].reshape(SIZE).astype(np.uint32), segments)


def _with_segments(ids: np.ndarray, segments: dict[int, tuple[int, int]]) -> _Annotated:
    """The segments that have pixels; what is none becomes void."""
    found = {int(segment_id) for segment_id in np.unique(ids)} & set(segments)
    ids = np.where(np.isin(ids, list(found)), ids, 0)
    return _Annotated(ids, {segment_id: segments[segment_id] for segment_id in segments if segment_id in found})


def _entries(image: _Annotated) -> list[dict[str, int]]:
    return [
        {'id': segment_id, 'category_id': category, 'iscrowd': crowd, 'area': int((image.ids == segment_id).sum())}
        for segment_id, (category, crowd) in image.segments.items()
    ]


def _colors(ids: np.ndarray) -> np.ndarray:
    """`[h, w, 3]` uint8 R, G, B of segment ids."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)

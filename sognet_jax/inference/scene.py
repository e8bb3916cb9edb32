"""What a prediction says about one image: its segments, and who covers whom (host side)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.inference.prediction import Prediction
from sognet_jax.inference.result import Frame, Segmenter
from sognet_jax.inference.segments import Segment

LEAST_STRENGTH = 0.01
"""Pairs with a smaller O are not listed: the network sees no overlap there."""


class SceneSegment(NamedTuple):
    """One segment of the panoptic map.

    Attributes:
        id: in the map.
        category: semantic train id.
        instance: its slot in the prediction, -1 for stuff.
        score: of the detection, in 0..1; None for stuff.
        area: in pixels.
        box: x1, y1, x2, y2 around its visible pixels, half open.
    """

    id: int
    category: int
    instance: int
    score: float | None
    area: int
    box: tuple[int, int, int, int]


class Overlap(NamedTuple):
    """The segment `covering` lies on the segment `covered` (ids of the map); `strength` is O in 0..1."""

    covering: int
    covered: int
    strength: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """The result for one image.

    Attributes:
        ids: `[h, w]` int32 id map at the original size, 0 is void.
        segments: in the order of their ids: stuff first, then instances from the highest score down.
        relations: `[n, n]` O of the n segments that are instances, in their order; > 0 at (i, j) where i is covered by
            j.
        overlaps: the pairs of `relations`, the strongest first.
    """

    ids: np.ndarray
    segments: list[SceneSegment]
    relations: np.ndarray
    overlaps: list[Overlap]

    @property
    def instances(self) -> list[SceneSegment]:
        """The segments that are instances: the rows and columns of `relations`."""
        return [segment for segment in self.segments if segment.instance >= 0]


def describe_scene(prediction: Prediction[np.ndarray], segmenter: Segmenter, frame: Frame) -> Scene:
    """Segments and overlap pairs of one image.

    Args:
        prediction: of this image, without the batch axis.
        segmenter: of the settings with which it was made.
        frame: where the image lies in the network input.
    """
    ids, segments = segmenter(prediction, frame)
    described = _measure(ids, segments, prediction.instances.scores)
    slots = [segment.instance for segment in described if segment.instance >= 0]
    relations = prediction.relations[np.ix_(slots, slots)]
    instance_ids = [segment.id for segment in described if segment.instance >= 0]
    return Scene(ids, described, relations, _overlaps(relations, instance_ids))


def scene_entry(scene: Scene, categories: CategorySet) -> dict[str, Any]:
    """What `predictions.json` says about one image: size, segments and overlap pairs."""
    return {
        'height': scene.ids.shape[0],
        'width': scene.ids.shape[1],
        'segments': [
            {
                'id': segment.id,
                'class': categories.all[segment.category].name,
                'thing': segment.instance >= 0,
                'score': None if segment.score is None else round(segment.score, 4),
                'area': segment.area,
                'box': segment.box,
            }
            for segment in scene.segments
        ],
        'overlaps': [overlap._asdict() | {'strength': round(overlap.strength, 4)} for overlap in scene.overlaps],
    }


def _measure(ids: np.ndarray, segments: list[Segment], scores: np.ndarray) -> list[SceneSegment]:
    """The segments with their score, area and box; one pass over the pixels for all of them."""
    height, width = ids.shape
    number = int(ids.max()) + 1
    areas = np.bincount(ids.ravel(), minlength=number)
    in_row, in_column = np.zeros((number, height), bool), np.zeros((number, width), bool)
    in_row[ids, np.arange(height)[:, None]] = True
    in_column[ids, np.arange(width)] = True
    top, left = np.argmax(in_row, axis=1), np.argmax(in_column, axis=1)
    bottom, right = height - np.argmax(in_row[:, ::-1], axis=1), width - np.argmax(in_column[:, ::-1], axis=1)
    boxes = np.stack([left, top, right, bottom], axis=-1)
    return [
        SceneSegment(
            id=segment.id,
            category=segment.category,
            instance=segment.instance,
            score=float(scores[segment.instance]) if segment.instance >= 0 else None,
            area=int(areas[segment.id]),
            box=tuple(boxes[segment.id].tolist()),
        )
        for segment in segments
    ]


def _overlaps(relations: np.ndarray, instance_ids: list[int]) -> list[Overlap]:
    """The pairs of the O matrix that are worth listing, the strongest first."""
    covered, covering = np.nonzero(relations >= LEAST_STRENGTH)
    strengths = relations[covered, covering]
    order = np.argsort(-strengths, kind='stable')
    return [
        Overlap(instance_ids[covering[pair]], instance_ids[covered[pair]], float(strengths[pair])) for pair in order
    ]

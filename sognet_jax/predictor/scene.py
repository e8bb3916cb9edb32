"""What the network says about one image: its segments, and who covers whom."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, NamedTuple

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.data.records.png import encode_image
from sognet_jax.inference.prediction import Prediction
from sognet_jax.inference.result import Frame, Segmenter
from sognet_jax.inference.segments import Segment
from sognet_jax.pictures.prediction import prediction_picture

LEAST_STRENGTH = 0.01
"""Pairs with a smaller O are not listed: the network sees no overlap there."""


@dataclasses.dataclass(frozen=True)
class SceneSegment:
    """One segment of the panoptic map.

    Attributes:
        id: in the map.
        category: semantic train id.
        name: of its class.
        instance: its slot in the prediction, -1 for stuff.
        score: of the detection, in 0..1; None for stuff.
        area: in pixels.
        box: x1, y1, x2, y2 around its visible pixels, half open.
        panoptic: the map.
    """

    id: int
    category: int
    name: str
    instance: int
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    panoptic: np.ndarray = dataclasses.field(repr=False, compare=False)

    @property
    def is_thing(self) -> bool:
        """Whether it is an instance."""
        return self.instance >= 0

    @property
    def mask(self) -> np.ndarray:
        """`[h, w]` bool, its visible pixels."""
        return self.panoptic == self.id


class Overlap(NamedTuple):
    """The segment `covering` lies on the segment `covered` (ids of the map); `strength` is O in 0..1."""

    covering: int
    covered: int
    strength: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """The result for one image; a notebook shows its picture.

    Attributes:
        image: `[h, w, 3]` uint8 RGB.
        categories: names and colours of the classes.
        panoptic: `[h, w]` int32 id map, 0 is void.
        segments: in the order of their ids: stuff first, then instances from the highest score down.
        relations: `[n, n]` O of the n segments that are instances, in their order; > 0 at (i, j) where i is covered by
            j.
    """

    image: np.ndarray = dataclasses.field(repr=False)
    categories: CategorySet = dataclasses.field(repr=False)
    panoptic: np.ndarray = dataclasses.field(repr=False)
    segments: list[SceneSegment]
    relations: np.ndarray = dataclasses.field(repr=False)

    @property
    def instances(self) -> list[SceneSegment]:
        """The segments that are instances: the rows and columns of `relations`."""
        return [segment for segment in self.segments if segment.is_thing]

    @functools.cached_property
    def overlaps(self) -> list[Overlap]:
        """The pairs of `relations` that are worth listing, the strongest first."""
        covered, covering = np.nonzero(self.relations >= LEAST_STRENGTH)
        strengths = self.relations[covered, covering]
        ids = [segment.id for segment in self.instances]
        order = np.argsort(-strengths, kind='stable')
        return [Overlap(ids[covering[pair]], ids[covered[pair]], float(strengths[pair])) for pair in order]

    def picture(self) -> np.ndarray:
        """`[h, w, 3]` uint8 RGB: the image, its segments, who covers whom as a graph and as the matrix O."""
        return prediction_picture(self)

    def to_dict(self) -> dict[str, Any]:
        """Size, segments and overlap pairs, as `predictions.json` has them."""
        height, width = self.panoptic.shape
        segments = [
            {
                'id': segment.id,
                'class': segment.name,
                'thing': segment.is_thing,
                'score': None if segment.score is None else round(segment.score, 4),
                'area': segment.area,
                'box': segment.box,
            }
            for segment in self.segments
        ]
        overlaps = [overlap._asdict() | {'strength': round(overlap.strength, 4)} for overlap in self.overlaps]
        return {'height': height, 'width': width, 'segments': segments, 'overlaps': overlaps}

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict())

    def _repr_png_(self) -> bytes:
        return encode_image(self.picture())


def describe_scene(
    prediction: Prediction[np.ndarray], segmenter: Segmenter, frame: Frame, image: np.ndarray, categories: CategorySet
) -> Scene:
    """Segments and overlap pairs of one image.

    Args:
        prediction: of this image, without the batch axis.
        segmenter: of the settings with which it was made.
        frame: where the image lies in the network input.
        image: `[h, w, 3]` uint8 RGB.
        categories: the classes.
    """
    ids, segments = segmenter(prediction, frame)
    described = _measure(ids, segments, prediction.instances.scores, categories)
    slots = [segment.instance for segment in described if segment.is_thing]
    return Scene(image, categories, ids, described, prediction.relations[np.ix_(slots, slots)])


def _measure(
    ids: np.ndarray, segments: list[Segment], scores: np.ndarray, categories: CategorySet
) -> list[SceneSegment]:
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
            name=categories.all[segment.category].name,
            instance=segment.instance,
            score=float(scores[segment.instance]) if segment.instance >= 0 else None,
            area=int(areas[segment.id]),
            box=tuple(boxes[segment.id].tolist()),
            panoptic=ids,
        )
        for segment in segments
    ]

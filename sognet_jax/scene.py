"""What the network says about one image: its segments, and who covers whom."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from sognet_jax.categories import CategorySet

THRESHOLD = 0.5
"""From this O on, a pair counts: the one lies on the other."""

LEAST_STRENGTH = 0.01
"""Pairs with a smaller O are not listed: the network sees no overlap there."""


class Segment(NamedTuple):
    """A segment of a panoptic map: its id, its semantic train id, its instance slot (-1 for stuff) and its score."""

    id: int
    category: int
    instance: int
    score: float | None = None


@dataclasses.dataclass(frozen=True)
class SceneSegment:
    """One segment of a scene, measured.

    `id` is that in the map `panoptic`, `category` the semantic train id and `name` the name of its class, `instance`
    its slot in the prediction (-1 for stuff), `score` that of the detection, in 0..1 (None for stuff), `area` in
    pixels, `box` x1, y1, x2, y2 around its visible pixels, half open.
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

    def to_dict(self) -> dict[str, Any]:
        """As files have it."""
        return self._asdict() | {'strength': round(self.strength, 4)}


@dataclasses.dataclass(frozen=True)
class Scene:
    """The result for one image; a notebook shows its picture."""

    categories: CategorySet = dataclasses.field(repr=False)  # names and colours of the classes
    panoptic: np.ndarray = dataclasses.field(repr=False)  # `[h, w]` int32 id map, 0 is void
    # its segments in the order of their ids: stuff first, then instances from the highest score down
    found: list[Segment]
    # `[n, n]` O of the n segments that are instances, in their order; > 0 at (i, j) where i is covered by j; 0 for a
    # method without relations
    relations: np.ndarray = dataclasses.field(repr=False)
    image: np.ndarray | None = dataclasses.field(default=None, repr=False)  # `[h, w, 3]` uint8 RGB, where it was kept
    # what draws the image and what was found in it
    painter: 'Callable[[np.ndarray, Scene], np.ndarray] | None' = dataclasses.field(default=None, repr=False)
    paster: Callable[[], np.ndarray] | None = dataclasses.field(default=None, repr=False)  # what makes `masks`
    # what makes `layers` of ids and relations
    layerer: Callable[[list[int], np.ndarray], list[list[int]]] | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def segments(self) -> list[SceneSegment]:
        """The segments with class name, score, area, box and mask."""
        return _measure(self.panoptic, self.found, self.categories)

    @property
    def instances(self) -> list[SceneSegment]:
        """The segments that are instances: the rows and columns of `relations`."""
        return [segment for segment in self.segments if segment.is_thing]

    @property
    def instance_ids(self) -> list[int]:
        """Their ids in the map."""
        return [segment.id for segment in self.found if segment.instance >= 0]

    @functools.cached_property
    def layers(self) -> list[list[int]]:
        """Ids of the instances, the first layer at the back (`order.layers`); none where nobody knows how."""
        return self.layerer(self.instance_ids, self.relations) if self.layerer else []

    @property
    def masks(self) -> np.ndarray:
        """`[n, h, w]` bool, the whole masks of the instances, which overlap; ValueError if nobody predicted them."""
        if self.paster is None:
            raise ValueError('there are no whole masks of a scene that was not predicted')
        return self.paster()

    @property
    def labels(self) -> list[tuple[int, int]]:
        """The segments as (id, semantic train id)."""
        return [(segment.id, segment.category) for segment in self.found]

    @functools.cached_property
    def overlaps(self) -> list[Overlap]:
        """The pairs of `relations` that are worth listing, the strongest first."""
        covered, covering = np.nonzero(self.relations >= LEAST_STRENGTH)
        strengths = self.relations[covered, covering]
        ids = self.instance_ids
        order = np.argsort(-strengths, kind='stable')
        return [Overlap(ids[covering[pair]], ids[covered[pair]], float(strengths[pair])) for pair in order]

    def picture(self) -> np.ndarray:
        """`[h, w, 3]` uint8 RGB: the image, its segments, who covers whom as a graph and as the matrix O; ValueError if
        the image was not kept.
        """
        if self.image is None or self.painter is None:
            raise ValueError('there is no picture of a scene whose image was not kept')
        return self.painter(self.image, self)

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
        overlaps = [overlap.to_dict() for overlap in self.overlaps]
        return {'height': height, 'width': width, 'segments': segments, 'overlaps': overlaps}

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict())

    def _repr_png_(self) -> bytes:
        return cv2.imencode('.png', self.picture()[..., ::-1])[1].tobytes()


def _measure(ids: np.ndarray, segments: list[Segment], categories: CategorySet) -> list[SceneSegment]:
    """The segments with their area and box; one pass over the pixels for all of them."""
    height, width = ids.shape
    wanted = [segment.id for segment in segments]
    row_of = np.zeros(max(int(ids.max()), *wanted, 0) + 1, np.int32)  # ids may be any colour; row 0 is all else
    row_of[wanted] = np.arange(1, len(wanted) + 1)
    rows, number = row_of[ids], len(wanted) + 1
    areas = np.bincount(rows.ravel(), minlength=number)
    in_row, in_column = np.zeros((number, height), bool), np.zeros((number, width), bool)
    in_row[rows, np.arange(height)[:, None]] = True
    in_column[rows, np.arange(width)] = True
    top, left = np.argmax(in_row, axis=1), np.argmax(in_column, axis=1)
    bottom, right = height - np.argmax(in_row[:, ::-1], axis=1), width - np.argmax(in_column[:, ::-1], axis=1)
    boxes = np.stack([left, top, right, bottom], axis=-1)
    return [
        SceneSegment(
            **segment._asdict(),
            name=categories.all[segment.category].name,
            area=int(areas[row]),
            box=tuple(boxes[row].tolist()),
            panoptic=ids,
        )
        for row, segment in enumerate(segments, 1)
    ]

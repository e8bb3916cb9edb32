"""Overlap pixels: those that the order of the instances decides, and which way to fuse them gets them right.

Few pixels are claimed by two instances, so that panoptic quality hides what the relations do. These pixels alone count
here, the same ones for every way to fuse one network's detections.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from sognet_jax.data.records.relations import NO_ROW, RLE, match_segments
from sognet_jax.data.records.schema import NO_SEGMENT, InstanceAnnotations
from sognet_jax.evaluation.summary import Metrics

LEAST_IOU = 0.5
"""Mask IoU from which on a detection matches an annotated instance of its class."""


@dataclasses.dataclass(frozen=True)
class OverlapPixels:
    """The overlap pixels of one image, `[p]` each."""

    place: np.ndarray  # in the flattened image
    owner: np.ndarray  # the detection that each belongs to
    same_class: np.ndarray  # bool, another detection of the owner's class claims it too


def match_detections(
    truth: InstanceAnnotations, chosen: np.ndarray, rles: Sequence[RLE], classes: np.ndarray
) -> np.ndarray:
    """`[n]` the detection of each annotated instance, `NO_ROW` for none: same class, highest IoU first, one to one.

    Args:
        truth: the annotations.
        chosen: `[n]` the instances that are looked at.
        rles, classes: masks and `[k]` thing classes of the detections.
    """
    return match_segments([truth.rles[one] for one in chosen], truth.category[chosen], rles, classes, LEAST_IOU)


def find_overlap_pixels(
    ids: np.ndarray, own_segments: np.ndarray, found: np.ndarray, masks: np.ndarray, classes: np.ndarray
) -> OverlapPixels:
    """The pixels that two or more matched detections claim, one of them the match of the instance annotated there.

    Pixels of void, stuff and crowd are none; a detection without a match claims nothing.

    Args:
        ids: `[h, w]` annotated segment ids.
        own_segments: `[n]` the segment of each annotated instance, `NO_SEGMENT` for none; no two have the same.
        found: `[n]` the detection of each, see `match_detections`.
        masks: `[k, h, w]` bool, the pixels that each detection claims.
        classes: `[k]` its thing class.
    """
    matched = np.flatnonzero(found != NO_ROW)
    detections, segments = found[matched], own_segments[matched]
    claims = masks[detections].reshape(len(matched), ids.size)
    place = np.flatnonzero(np.count_nonzero(claims, axis=0) >= 2)
    claims, annotated = claims[:, place], ids.reshape(-1)[place]
    pixel, row = np.nonzero((claims & (segments[:, None] == annotated) & (segments[:, None] != NO_SEGMENT)).T)
    owner = detections[row]
    of_class = claims[:, pixel] & (classes[detections][:, None] == classes[owner])
    return OverlapPixels(place[pixel], owner, np.count_nonzero(of_class, axis=0) >= 2)


def correct_relations(relations: np.ndarray, found: np.ndarray, order: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """O with the truth where both detections are matched and the order of their instances is known.

    Args:
        relations: `[k, k]` O of the detections.
        found: `[n]` the detection of each annotated instance, see `match_detections`.
        order, decided: `[n, n]` bool, i is covered by j, and of which pairs that is known.
    """
    matched = np.flatnonzero(found != NO_ROW)
    detections, instances = (np.ix_(rows, rows) for rows in (found[matched], matched))
    corrected = relations.copy()
    corrected[detections] = np.where(decided[instances], order[instances], relations[detections])
    return corrected


class OverlapPixelCounts:
    """How many overlap pixels there are, and how many each fusion gives to the right instance."""

    def __init__(self) -> None:
        self._total = np.zeros(2, np.int64)  # all, and those between instances of one class
        self._right: dict[str, np.ndarray] = {}

    def add(self, pixels: OverlapPixels, maps: Mapping[str, np.ndarray]) -> None:
        """Counts one image.

        Args:
            pixels: of it.
            maps: of each fusion, `[h, w]` the detection that a pixel is given to, or a negative number.
        """
        self._total += _count(pixels, np.ones(len(pixels.owner), bool))
        for name, detections in maps.items():
            right = _count(pixels, detections.reshape(-1)[pixels.place] == pixels.owner)
            self._right[name] = self._right.get(name, 0) + right

    def __iadd__(self, other: Self) -> Self:
        self._total += other._total
        for name, right in other._right.items():
            self._right[name] = self._right.get(name, 0) + right
        return self

    def metrics(self) -> Metrics:
        """Numbers of pixels, and in percent the share that each fusion gives to the right instance; {} before any."""
        if not self._right:
            return {}
        metrics: Metrics = {}
        for place, name in enumerate(('overlap_pixels', 'overlap_pixels_same_class')):
            metrics[name] = total = int(self._total[place])
            for fusion, right in self._right.items():
                metrics[f'{name}/{fusion}'] = 100 * int(right[place]) / total if total else math.nan
        return metrics


def _count(pixels: OverlapPixels, chosen: np.ndarray) -> np.ndarray:
    return np.array([np.count_nonzero(chosen), np.count_nonzero(chosen & pixels.same_class)])

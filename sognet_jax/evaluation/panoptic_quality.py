"""Panoptic quality, Eq. (13), with the rules of the official panopticapi."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

VOID = 0
"""Id of unlabelled pixels in an id map."""


@dataclasses.dataclass
class PanopticCounts:
    """Sums over images, by category `[C]`: IoU of the true positives, true and false positives, false negatives."""

    iou: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray

    @classmethod
    def zeros(cls, num_categories: int) -> PanopticCounts:
        """No image counted yet."""
        return cls(np.zeros(num_categories), *(np.zeros(num_categories, np.int64) for _ in range(3)))

    def __add__(self, other: PanopticCounts) -> PanopticCounts:
        return PanopticCounts(
            self.iou + other.iou,
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def counted(self) -> np.ndarray:
        """`[C]` bool, categories that occur: averages are over these alone."""
        return self.true_positives + self.false_positives + self.false_negatives > 0

    def quality(self) -> dict[str, np.ndarray]:
        """PQ, SQ and RQ of every category, `[C]` each in 0..1; 0 for categories that do not occur."""
        weight = self.true_positives + 0.5 * self.false_positives + 0.5 * self.false_negatives
        return {
            'PQ': self.iou / np.maximum(weight, 0.5),
            'SQ': self.iou / np.maximum(self.true_positives, 1),
            'RQ': self.true_positives / np.maximum(weight, 0.5),
        }

    def summary(self, chosen: np.ndarray | None = None) -> dict[str, float]:
        """PQ, SQ and RQ averaged over the categories that occur, and `n`, how many those are.

        Args:
            chosen: `[C]` bool, categories to look at; None for all.
        """
        counted = self.counted if chosen is None else self.counted & chosen
        number = int(counted.sum())
        means = {name: float(values[counted].mean()) if number else 0.0 for name, values in self.quality().items()}
        return means | {'n': number}


def count_image(
    truth: np.ndarray,
    truth_segments: Sequence[tuple[int, int, bool]],
    prediction: np.ndarray,
    predicted_segments: Sequence[tuple[int, int]],
    num_categories: int,
) -> PanopticCounts:
    """Matches the segments of one image.

    A pair of one category matches where IoU > 0.5; predicted pixels on void are left out of the union. Crowd is never
    matched or missed, and an unmatched prediction that lies to more than half on void and on crowd of its category (the
    last listed crowd segment of it) is no false positive.

    Args:
        truth: `[h, w]` segment ids, 0 is void.
        truth_segments: (id, category, is crowd) of each true segment; every id occurs in `truth`.
        prediction: `[h, w]` segment ids, 0 is void.
        predicted_segments: (id, category) of each predicted segment; every id occurs in `prediction`.
        num_categories: categories are 0 .. num_categories - 1.

    Raises:
        ValueError: the maps have different sizes, or ids of map and segments differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f'ground truth is {truth.shape}, prediction {prediction.shape}')
    true_ids, true_category, crowd = _columns(truth_segments, 3)
    ids, category = _columns(predicted_segments, 2)
    areas = _intersections('ground truth', truth, true_ids, 'prediction', prediction, ids)
    true_area, area = areas.sum(axis=1), areas.sum(axis=0)
    overlap = areas[1:, 1:]
    union = true_area[1:, None] + area[None, 1:] - overlap - areas[0, None, 1:]
    iou = overlap / np.maximum(union, 1)
    crowd = crowd.astype(bool)
    matched = (iou > 0.5) & (true_category[:, None] == category[None, :]) & ~crowd[:, None]

    counts = PanopticCounts.zeros(num_categories)
    rows, columns = np.nonzero(matched)
    np.add.at(counts.iou, true_category[rows], iou[rows, columns])
    np.add.at(counts.true_positives, true_category[rows], 1)
    missed = ~matched.any(axis=1) & ~crowd
    np.add.at(counts.false_negatives, true_category[missed], 1)

    last_crowd = {int(true_category[row]): row for row in np.flatnonzero(crowd)}
    excused = areas[0, 1:].copy()
    for index, name in enumerate(category):
        if int(name) in last_crowd:
            excused[index] += overlap[last_crowd[int(name)], index]
    wrong = ~matched.any(axis=0) & ~(excused / np.maximum(area[1:], 1) > 0.5)
    np.add.at(counts.false_positives, category[wrong], 1)
    return counts


def _columns(segments: Sequence[tuple], width: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([tuple(segment) for segment in segments], np.int64).reshape(-1, width).T)


def _intersections(
    true_name: str, truth: np.ndarray, true_ids: np.ndarray, name: str, prediction: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """`[1 + G, 1 + P]` common pixels of each true and each predicted segment; row and column 0 are void."""
    rows = _positions(true_name, truth, true_ids)
    columns = _positions(name, prediction, ids)
    shape = (len(true_ids) + 1, len(ids) + 1)
    return np.bincount((rows * shape[1] + columns).ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def _positions(name: str, id_map: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """`[h, w]` place of each pixel's id in `ids`, from 1; 0 for void."""
    known = np.concatenate([[VOID], ids])
    order = np.argsort(known, kind='stable')
    place = np.minimum(np.searchsorted(known, id_map, sorter=order), len(known) - 1)
    positions = order[place]
    if not np.array_equal(known[positions], id_map):
        foreign = np.setdiff1d(id_map, known)[:5].tolist()
        raise ValueError(f'the {name} map has ids that are not in its list of segments: {foreign}')
    absent = np.setdiff1d(ids, id_map)
    if len(absent):
        raise ValueError(f'{name} segments without a pixel: {absent[:5].tolist()}')
    return positions

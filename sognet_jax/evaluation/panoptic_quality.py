"""Panoptic quality, Eq. (13), with the rules of the official panopticapi, to the last digit.

counts = PanopticCounts.zeros(num_categories)
for ...:
    counts += match_segments(truth, truth_segments, prediction, predicted_segments).counts(num_categories)
counts.summary()['PQ']
"""

import dataclasses
import threading
from collections.abc import Sequence
from typing import Self

import numpy as np

from sognet_jax.id_maps import NUM_IDS
from sognet_jax.problems import Fault

VOID = 0
"""Id of unlabelled pixels in an id map."""

WRONG_AREA = 'area of another size'
"""The kind of fault that a map of the ground truth and its list of segments can have."""


@dataclasses.dataclass
class PanopticCounts:
    """What panoptic quality is computed from, over any number of images.

    The IoU of every match is kept, not their sums alone. Floating-point sums depend on their order, and so they are the
    official ones however the images were spread over processes, where counts are added up in the order of the images.
    """

    matches: list[tuple[np.ndarray, np.ndarray]]  # category `[m]` and IoU `[m]` of the matched pairs, image by image
    false_positives: np.ndarray  # `[C]` by category
    false_negatives: np.ndarray  # `[C]`

    @classmethod
    def zeros(cls, num_categories: int) -> Self:
        """No image counted yet."""
        return cls([], np.zeros(num_categories, np.int64), np.zeros(num_categories, np.int64))

    def __iadd__(self, other: Self) -> Self:
        self.matches += other.matches
        self.false_positives = self.false_positives + other.false_positives
        self.false_negatives = self.false_negatives + other.false_negatives
        return self

    @property
    def iou(self) -> np.ndarray:
        """`[C]` sum of the true positives' IoU, added one after the other."""
        category, iou = self._all_matches()
        return np.bincount(category, weights=iou, minlength=len(self.false_positives))

    @property
    def true_positives(self) -> np.ndarray:
        """`[C]` number of matches."""
        return np.bincount(self._all_matches()[0], minlength=len(self.false_positives))

    @property
    def counted(self) -> np.ndarray:
        """`[C]` bool, categories that occur: averages are over these alone."""
        return self.true_positives + self.false_positives + self.false_negatives > 0

    def quality(self) -> dict[str, np.ndarray]:
        """PQ, SQ and RQ of every category, `[C]` each in 0..1; 0 for categories that do not occur."""
        iou, true_positives = self.iou, self.true_positives
        weight = true_positives + 0.5 * self.false_positives + 0.5 * self.false_negatives
        return {
            'PQ': iou / np.maximum(weight, 0.5),
            'SQ': iou / np.maximum(true_positives, 1),
            'RQ': true_positives / np.maximum(weight, 0.5),
        }

    def summary(self, chosen: np.ndarray | None = None) -> dict[str, float]:
        """PQ, SQ and RQ averaged over the categories that occur, and `n`, how many those are.

        Args:
            chosen: categories to look at, `[C]` bool, or their numbers in the order in which they are summed up (which
                decides the last digit); None for all, in their own order.
        """
        categories = np.arange(len(self.false_positives))
        categories = categories if chosen is None else categories[chosen]
        categories = categories[self.counted[categories]]
        number = len(categories)
        # `cumsum` adds one after the other. NumPy's sums pair their terms, those of Python 3.12 mend the rounding.
        means = {
            name: float(np.cumsum(values[categories])[-1]) / number if number else 0.0
            for name, values in self.quality().items()
        }
        return means | {'n': number}

    def _all_matches(self) -> tuple[np.ndarray, np.ndarray]:
        categories, ious = zip((np.zeros(0, np.int64), np.zeros(0)), *self.matches, strict=True)
        return np.concatenate(categories), np.concatenate(ious)


@dataclasses.dataclass(frozen=True)
class Matching:
    """Which segments of one image match. Segments are named by their place in the lists that were given.

    Every true segment is matched, missed, or crowd; every predicted one is matched, wrong, or excused.
    """

    true_category: np.ndarray  # `[g]` category of each true segment
    predicted_category: np.ndarray  # `[p]` category of each predicted one
    true: np.ndarray  # `[m]` the true segment of each matched pair. Pairs are sorted by the ids of their segments.
    predicted: np.ndarray  # `[m]` the predicted one
    iou: np.ndarray  # `[m]` intersection over union, above 0.5
    missed: np.ndarray  # true segments without a match (false negatives)
    wrong: np.ndarray  # predicted segments without a match (false positives)
    excused: np.ndarray  # predicted segments without a match, but mostly on void and crowd; they do not count

    def counts(self, num_categories: int) -> PanopticCounts:
        """The counts of this image alone, for categories 0 .. num_categories - 1.

        Raises:
            ValueError: a category is not among them.
        """
        for category in (self.true_category, self.predicted_category):
            if len(category) and not 0 <= category.min() <= category.max() < num_categories:
                raise ValueError(f'categories must be in 0..{num_categories - 1}, got {np.unique(category).tolist()}')
        return PanopticCounts(
            [(self.true_category[self.true], self.iou)],
            np.bincount(self.predicted_category[self.wrong], minlength=num_categories),
            np.bincount(self.true_category[self.missed], minlength=num_categories),
        )


def match_segments(
    truth: np.ndarray,
    truth_segments: Sequence[tuple[int, int, bool]],
    prediction: np.ndarray,
    predicted_segments: Sequence[tuple[int, int]],
    truth_areas: Sequence[float] | None = None,
) -> Matching:
    """Matches the segments of one image.

    A pair of one category matches where IoU > 0.5; predicted pixels on void are left out of the union. Crowd is never
    matched or missed, and an unmatched prediction that lies to more than half on void and on crowd of its category (the
    last listed crowd segment of it) is no false positive. Pixels of the ground truth whose id is no segment's are not
    void: they are simply no segment. A true segment without a pixel is missed.

    Args:
        truth: `[h, w]` segment ids, 0 is void.
        truth_segments: (id, category, is crowd) of each true segment.
        prediction: `[h, w]` segment ids, 0 is void.
        predicted_segments: (id, category) of each predicted segment; every id occurs in `prediction`, and no other.
        truth_areas: of each true segment, in pixels, where a file says them: what `truth` has to have.

    Raises:
        ValueError: the maps have different sizes, ids are not below 256^3, or an id is listed twice.
        Fault: ids of the predicted map and segments differ, or a true segment has another area.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f'ground truth is {truth.shape}, prediction {prediction.shape}')
    true_ids, true_category, crowd = _columns(truth_segments, 3)
    ids, category = _columns(predicted_segments, 2)
    crowd = crowd.astype(bool)
    pixels = _common_pixels(truth, true_ids, prediction, ids)
    void, overlap, area = pixels[0, 1:], pixels[1:-1, 1:], pixels[:, 1:].sum(axis=0)
    true_area = pixels[1:-1].sum(axis=1)
    if truth_areas is not None and np.any(true_area != truth_areas):
        wrong = np.flatnonzero(true_area != truth_areas)[:5]
        texts = (
            f'segment {true_ids[i]} has {true_area[i]:.0f} pixels, its area in the JSON is {truth_areas[i]:.15g}'
            for i in wrong
        )
        raise Fault(WRONG_AREA, '; '.join(texts))
    with np.errstate(invalid='ignore'):  # a true segment without a pixel under nothing but void
        iou = overlap / (area + true_area[:, None] - overlap - void)
    matched = (iou > 0.5) & (true_category[:, None] == category) & ~crowd[:, None]
    true, predicted = np.nonzero(matched)
    order = np.lexsort((ids[predicted], true_ids[true]))
    true, predicted = true[order], predicted[order]
    last_crowd = {int(true_category[index]): index for index in np.flatnonzero(crowd)}
    ignored = void + sum(np.where(category == name, overlap[index], 0) for name, index in last_crowd.items())
    unmatched, excused = ~matched.any(axis=0), ignored / area > 0.5
    return Matching(
        true_category, category, true, predicted, iou[true, predicted],
        missed=np.flatnonzero(~matched.any(axis=1) & ~crowd),
        wrong=np.flatnonzero(unmatched & ~excused), excused=np.flatnonzero(unmatched & excused),
    )  # fmt: skip


def _columns(segments: Sequence[tuple], width: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([tuple(segment) for segment in segments], np.int64).reshape(-1, width).T)


def _common_pixels(truth: np.ndarray, true_ids: np.ndarray, prediction: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """`[1 + g + 1, 1 + p]` pixels that true and predicted segments have in common, float64.

    Row and column 0 are void; the last row is ids of the ground truth that are no segment's.
    """
    truth, prediction = truth.ravel(), prediction.ravel()
    # Neighbours mostly have the same pair of ids. So runs are counted, of which there are far fewer than pixels.
    starts = np.ones(truth.size + 1, bool)  # and, last, the end
    np.not_equal(truth[1:], truth[:-1], out=starts[1:-1])
    starts[1:-1] |= prediction[1:] != prediction[:-1]
    runs = np.flatnonzero(starts)
    lengths = np.diff(runs)
    truth, prediction = truth[runs[:-1]], prediction[runs[:-1]]
    rows = _places('ground truth', truth, true_ids)
    rows[(rows == 0) & (truth != VOID)] = len(true_ids) + 1
    columns = _places('prediction', prediction, ids)
    foreign = prediction[(columns == 0) & (prediction != VOID)]
    if len(foreign):
        listed = np.unique(foreign)[:5].tolist()
        text = f'the prediction map has ids that are not in its list of segments: {listed}'
        raise Fault('PNG id without a segment', text)
    shape = (len(true_ids) + 2, len(ids) + 1)
    pixels = np.bincount(rows * shape[1] + columns, weights=lengths, minlength=shape[0] * shape[1]).reshape(shape)
    absent = ids[pixels[:, 1:].sum(axis=0) == 0]
    if len(absent):
        raise Fault('segment without a pixel', f'prediction segments without a pixel: {absent[:5].tolist()}')
    return pixels


class _Table(threading.local):
    """A place for every id, 0 between uses. Each thread has its own, because it is written to.

    It is kept, because pages that were touched once are not fresh memory again. Most of it is never touched.
    """

    def __init__(self) -> None:
        self.places = np.zeros(NUM_IDS, np.int32)


_TABLE = _Table()


def _places(name: str, pixels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """`[n]` place of each pixel's id in `ids`, from 1; 0 for void and for ids that are not there."""
    for values, least in ((pixels, VOID), (ids, VOID + 1)):
        if len(values) and not least <= values.min() <= values.max() < NUM_IDS:
            wrong = values[(values < least) | (values >= NUM_IDS)]
            raise ValueError(f'{name} ids must be in {least}..{NUM_IDS - 1}, got {np.unique(wrong)[:5].tolist()}')
    places = _TABLE.places
    numbers = np.arange(1, len(ids) + 1)
    try:
        places[ids] = numbers
        if not np.array_equal(places[ids], numbers):
            raise ValueError(f'{name} segments have the same id: {sorted(ids.tolist())}')
        return places[pixels].astype(np.int64)
    finally:
        places[ids] = 0

"""Segments of random and of stored images, and sums as the official program makes them."""

import numpy as np

from sognet_jax.categories import COCO
from sognet_jax.evaluation.panoptic_quality import PanopticCounts, match_segments

TRAIN_ID = {category.id: index for index, category in enumerate(COCO.all)}

OFFICIAL_ORDER = np.argsort([category.id for category in COCO.all])


def segments(rows):
    return [(int(row[0]), TRAIN_ID[int(row[1])], bool(row[2])) for row in rows if row[0] >= 0]


class AddedInParts(PanopticCounts):
    """Adds up the IoU of some images first, as panopticapi does in several processes; it can change the last digit."""

    def __init__(self, counts, parts):
        super().__init__(counts.matches, counts.false_positives, counts.false_negatives)
        self.parts = parts

    @property
    def iou(self):
        total = np.zeros(len(self.false_positives))
        for part in np.array_split(np.arange(len(self.matches)), self.parts):
            own = PanopticCounts([self.matches[image] for image in part], self.false_positives, self.false_negatives)
            total += own.iou
        return total


def columns(counts):
    return counts.iou, counts.true_positives, counts.false_positives, counts.false_negatives


def random_image(seed, num_categories=4):
    """Maps of rectangles with segment lists: crowd, void, ids that are not listed, segments without a pixel."""
    rng = np.random.default_rng(seed)
    pool = rng.choice(2**24 - 1, 24, replace=False) + 1
    if rng.random() < 0.5:
        pool = np.arange(1, 25)
    pool = pool.tolist()
    truth = np.zeros((12, 17), rng.choice([np.int32, np.uint32, np.int64]))
    prediction = np.zeros((12, 17), np.int32)
    for id_map, ids in ((truth, pool[:10]), (prediction, pool[5:17])):
        for segment_id in rng.permutation(ids)[: rng.integers(0, len(ids))]:
            top, left = rng.integers(0, 10), rng.integers(0, 14)
            id_map[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = segment_id
    if rng.random() < 0.5:  # something to match
        kept = rng.random(truth.shape) < 0.85
        prediction[kept] = truth[kept]
    true_segments = [
        (segment_id, int(rng.integers(num_categories)), bool(rng.random() < 0.3))
        for segment_id in rng.permutation(pool[:8]).tolist()
    ]
    category = {segment_id: name for segment_id, name, _ in true_segments}
    listed = rng.permutation(np.setdiff1d(prediction, [0])).tolist()
    predicted_segments = [
        (segment_id, category.get(segment_id, 0) if rng.random() < 0.7 else int(rng.integers(num_categories)))
        for segment_id in listed
    ]
    return truth, true_segments, prediction, predicted_segments


def count_image(truth, truth_segments, prediction, predicted_segments, num_categories):
    """The counts of one image whose categories are 0 .. num_categories - 1."""
    return match_segments(truth, truth_segments, prediction, predicted_segments).counts(num_categories)

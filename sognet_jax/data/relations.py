"""Overlap relations from annotations: R of Eq. (11) from instance masks, R* from instance and panoptic annotation.

Masks are COCO run-length encodings (`{'size': [h, w], 'counts': bytes}`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

OVERLAP_RATIO = 0.1
"""Pairs whose intersection over the smaller mask reaches this overlap: Eq. (11)."""

UNDECIDED = -1

RLE = dict[str, Any]


def find_pairs(rles: Sequence[RLE], crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping pairs, R_ij = 1 in Eq. (11), of instances that are not crowd.

    Args:
        rles: n instance masks of one image.
        crowd: `[n]` bool.

    Returns:
        pairs `[p, 2]` int32 with first < second, and their intersections `[p]` int64 in pixels.
    """
    boxes = coco_mask.toBbox(list(rles)).reshape(-1, 4)
    lower, upper = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    touches = np.all(np.maximum(lower[:, None], lower) < np.minimum(upper[:, None], upper), axis=-1)
    touches &= ~crowd[:, None] & ~crowd[None, :]
    candidates = np.argwhere(np.triu(touches, 1))
    areas = coco_mask.area(list(rles)).astype(np.int64)
    intersections = np.array(
        [coco_mask.area(coco_mask.merge([rles[i], rles[j]], intersect=True)) for i, j in candidates], np.int64
    )
    smaller = np.minimum(areas[candidates[:, 0]], areas[candidates[:, 1]])
    # 0 / 0, from empty masks, counts as no overlap.
    overlapping = (smaller > 0) & (intersections >= OVERLAP_RATIO * smaller)
    return candidates[overlapping].astype(np.int32), intersections[overlapping]


def decide_pairs(
    rles: Sequence[RLE], pairs: np.ndarray, panoptic_ids: np.ndarray, segments: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which instance of a pair is covered, R*: the one with fewer panoptic pixels in the intersection.

    Args:
        rles: n instance masks.
        pairs: `[p, 2]` indices of overlapping pairs.
        panoptic_ids: `[h, w]` segment ids of the panoptic annotation.
        segments: `[n]` the panoptic segment of each instance, 0 where it has none.

    Returns:
        covered `[p]` int8: 0 the first is covered by the second, 1 the second by the first, -1 undecided (equal
        counts, neither present, or one of the two without a segment); and `[p, 2]` int64, the pixels of the
        intersection that belong to the first and to the second.
    """
    pixels = np.zeros((len(pairs), 2), np.int64)
    for row, (first, second) in enumerate(pairs):
        intersection = coco_mask.merge([rles[first], rles[second]], intersect=True)
        x, y, width, height = coco_mask.toBbox(intersection).astype(int)
        window = slice(y, y + height), slice(x, x + width)
        ids = panoptic_ids[window][coco_mask.decode(intersection)[window].astype(bool)]
        pixels[row] = [np.count_nonzero(ids == segments[i]) if segments[i] else 0 for i in (first, second)]
    covered = np.full(len(pairs), UNDECIDED, np.int8)
    both_known = np.all(segments[pairs] != 0, axis=1) if len(pairs) else np.zeros(0, bool)
    covered[both_known & (pixels[:, 0] < pixels[:, 1])] = 0
    covered[both_known & (pixels[:, 0] > pixels[:, 1])] = 1
    return covered, pixels


def match_segments(
    rles: Sequence[RLE],
    categories: np.ndarray,
    panoptic_ids: np.ndarray,
    segment_ids: np.ndarray,
    segment_categories: np.ndarray,
) -> np.ndarray:
    """The panoptic segment of each instance: same category, highest mask IoU first, one to one.

    Args:
        rles: n instance masks.
        categories: `[n]` category of each instance.
        panoptic_ids: `[h, w]` segment ids.
        segment_ids, segment_categories: `[s]` the thing segments and their categories.

    Returns:
        `[n]` int64 segment ids; 0 where an instance has none.
    """
    matched = np.zeros(len(rles), np.int64)
    if not len(rles) or not len(segment_ids):
        return matched
    masks = np.asfortranarray(panoptic_ids[:, :, None] == segment_ids, dtype=np.uint8)
    iou = np.asarray(coco_mask.iou(list(rles), coco_mask.encode(masks), [0] * len(segment_ids)))
    iou = np.where(categories[:, None] == segment_categories[None, :], iou, 0.0)
    for _ in range(min(iou.shape)):
        instance, segment = np.unravel_index(np.argmax(iou), iou.shape)
        if iou[instance, segment] <= 0:
            break
        matched[instance] = segment_ids[segment]
        iou[instance, :] = 0
        iou[:, segment] = 0
    return matched

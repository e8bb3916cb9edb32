"""Overlap relations from annotations: R of Eq. (11) from instance masks, R* from instance and panoptic annotation.

Masks are COCO run-length encodings (`{'size': [h, w], 'counts': bytes}`) and are compared as such.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

OVERLAP_RATIO = 0.1
"""Pairs whose intersection over the smaller mask reaches this overlap: Eq. (11)."""

UNDECIDED = -1

NO_ROW = -1
"""Of an instance that has no panoptic segment."""

REPLACING_IOU = 0.5
"""Where two segments want one instance, the published code lets the later have it from this box IoU on."""

RLE = dict[str, Any]


def find_pairs(rles: Sequence[RLE], crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping pairs, R_ij = 1 in Eq. (11), of instances that are not crowd.

    Returns:
        pairs `[p, 2]` int32 with first < second, and their intersections `[p]` int64 in pixels.
    """
    areas, intersections = rle_areas(rles), common_areas(rles, rles)
    smaller = np.minimum.outer(areas, areas)
    # 0 / 0, from empty masks, counts as no overlap.
    overlapping = (smaller > 0) & (intersections >= OVERLAP_RATIO * smaller) & ~crowd[:, None] & ~crowd
    first, second = np.nonzero(np.triu(overlapping, 1))
    return np.stack([first, second], axis=1).astype(np.int32), intersections[first, second]


def decide_pairs(
    rles: Sequence[RLE], pairs: np.ndarray, segment_rles: Sequence[RLE], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which instance of a pair is covered, R*: the one with fewer panoptic pixels in the intersection.

    Args:
        pairs: `[p, 2]` indices of overlapping pairs.
        rows: `[n]` the panoptic segment of each instance, an index into their masks, `NO_ROW` where it has none.

    Returns:
        covered `[p]` int8: 0 the first is covered by the second, 1 the second by the first, -1 undecided (equal
        counts, neither present, or one of the two without a segment); and `[p, 2]` int64, the pixels of the
        intersection that belong to the first and to the second.
    """
    pixels = np.zeros((len(pairs), 2), np.int64)
    for row, (first, second) in enumerate(pairs):
        common = coco_mask.merge([rles[first], rles[second]], intersect=True)
        pixels[row] = [_common_area(common, segment_rles[rows[i]]) if rows[i] >= 0 else 0 for i in (first, second)]
    covered = np.full(len(pairs), UNDECIDED, np.int8)
    both_known = np.all(rows[pairs] >= 0, axis=1) if len(pairs) else np.zeros(0, bool)
    covered[both_known & (pixels[:, 0] < pixels[:, 1])] = 0
    covered[both_known & (pixels[:, 0] > pixels[:, 1])] = 1
    return covered, pixels


def match_segments(
    rles: Sequence[RLE],
    categories: np.ndarray,
    segment_rles: Sequence[RLE],
    segment_categories: np.ndarray,
    least_iou: float = 0.0,
) -> np.ndarray:
    """The panoptic segment of each instance: same category, highest mask IoU first, one to one.

    Args:
        rles, categories: masks and `[n]` categories of the instances; those of segments that they may have, `[s]`.
        least_iou: of a match; one of IoU 0 is none.

    Returns:
        `[n]` int64 indices of segments; `NO_ROW` where an instance has none.
    """
    matched = np.full(len(rles), NO_ROW, np.int64)
    if not len(rles) or not len(segment_rles):
        return matched
    iou = np.asarray(coco_mask.iou(list(rles), list(segment_rles), [0] * len(segment_rles)))
    iou = np.where((categories[:, None] == segment_categories[None, :]) & (iou >= least_iou), iou, 0.0)
    for _ in range(min(iou.shape)):
        instance, segment = np.unravel_index(np.argmax(iou), iou.shape)
        if iou[instance, segment] <= 0:
            break
        matched[instance] = segment
        iou[instance, :] = 0
        iou[:, segment] = 0
    return matched


def match_segments_by_box(boxes: np.ndarray, segment_boxes: np.ndarray) -> np.ndarray:
    """The panoptic segment of each instance by the published code's rule, which looks at boxes alone.

    Each segment, in order, goes to the instance whose box overlaps its own most, whatever the categories. The first
    that comes to an instance is taken; a later one replaces it if its IoU is at least 0.5. Boxes are `[n, 4]` and
    `[s, 4]`, half open; what is returned is as in `match_segments`.
    """
    matched = np.full(len(boxes), NO_ROW, np.int64)
    if not len(boxes):
        return matched
    iou = np.asarray(coco_mask.iou(_xywh(segment_boxes), _xywh(boxes), [0] * len(boxes))).reshape(-1, len(boxes))
    for segment, overlaps in enumerate(iou):
        instance = np.argmax(overlaps)
        if matched[instance] == NO_ROW or overlaps[instance] >= REPLACING_IOU:
            matched[instance] = segment
    return matched


def map_rles(indices: np.ndarray, count: int) -> list[RLE]:
    """The masks of a map's segments, whose `[h, w]` indices are 0 .. count, in one pass over its columns: `count`
    run-length encodings, the first of the pixels with index 1.
    """
    pixels = indices.ravel(order='F')
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    ends = np.append(starts[1:], len(pixels))
    values = pixels[starts]
    order = np.argsort(values, kind='stable')
    bounds = np.searchsorted(values[order], np.arange(1, count + 2))
    rles = []
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        runs = order[first:last]
        edges = np.stack([starts[runs], ends[runs]], axis=-1).ravel()
        counts = np.diff(np.concatenate([[0], edges, [len(pixels)]]))
        if counts[-1] == 0:  # where the last pixel is inside: as the COCO encoder has it
            counts = counts[:-1]
        rles.append(coco_mask.frPyObjects({'size': list(indices.shape), 'counts': counts.tolist()}, *indices.shape))
    return rles


def common_areas(first: Sequence[RLE], second: Sequence[RLE]) -> np.ndarray:
    """`[m, n]` int64, the pixels that masks of one image share."""
    if not first or not second:
        return np.zeros((len(first), len(second)), np.int64)
    # Of crowd, pycocotools gives the share of the first mask; it looks at those alone whose boxes meet.
    shares = np.asarray(coco_mask.iou(list(first), list(second), [1] * len(second)))
    return np.rint(shares * rle_areas(first)[:, None]).astype(np.int64)


def rle_areas(rles: Sequence[RLE]) -> np.ndarray:
    """`[n]` int64, the pixels of masks; one by one, as pycocotools counts those of a list in 8 bits."""
    return np.array([coco_mask.area(rle) for rle in rles], np.int64)


def rle_as_text(rle: RLE) -> dict[str, Any]:
    """A mask as COCO's JSON files have it."""
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def rle_boxes(rles: Sequence[RLE]) -> np.ndarray:
    """`[n, 4]` float32, the half-open boxes around masks; all 0 around an empty one."""
    xywh = np.asarray(coco_mask.toBbox(list(rles)), np.float32).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _common_area(a: RLE, b: RLE) -> int:
    return int(coco_mask.area(coco_mask.merge([a, b], intersect=True)))


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64).reshape(-1, 4)

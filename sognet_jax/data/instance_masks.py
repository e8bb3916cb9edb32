"""Instance masks seen through their boxes. Of a stored mask only the columns of its box are decoded.

COCO's run lengths go down the columns, so that a column is contiguous: masks are handled transposed until the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from sognet_jax.data.relations import RLE

MASK_SIDE = 112


def masks_in_boxes(rles: Sequence[RLE], boxes: np.ndarray) -> np.ndarray:
    """Masks of one image, each seen through its box.

    Args:
        rles: COCO's compressed run lengths.
        boxes: `[n, 4]` half-open boxes in pixels of the image.

    Returns:
        `[n, 112, 112]` uint8 in {0, 1}.
    """
    masks = np.empty((len(rles), MASK_SIDE, MASK_SIDE), np.uint8)
    for row, (rle, ends, box) in enumerate(zip(rles, run_ends(rles), boxes, strict=True)):
        height, width = rle['size']
        # Samples lie inside the box, and each is interpolated with its neighbours.
        first = min(max(math.floor(box[0]) - 1, 0), width - 1)
        stop = max(min(math.ceil(box[2]) + 1, width), first + 1)
        window = decode_columns(ends, height, first, stop)
        masks[row] = mask_in_box(window, box - np.array([first, 0, first, 0], np.float32))
    return masks


def mask_in_box(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A mask `[h, w]` uint8 in {0, 1} seen through a half-open box, `[112, 112]` of the same.

    The mask is interpolated bilinearly at the centres of the box's 112 x 112 cells and cut at one half; beyond the
    image it goes on as at its edge.
    """
    left, top, right, bottom = box.tolist()
    step_x, step_y = max(right - left, 1e-3) / MASK_SIDE, max(bottom - top, 1e-3) / MASK_SIDE
    # Cell u has its centre at left + (u + 0.5) * step; OpenCV counts pixel centres from 0. Rows and columns swapped.
    to_mask = np.array([[step_y, 0, top + 0.5 * step_y - 0.5], [0, step_x, left + 0.5 * step_x - 0.5]])
    seen = cv2.warpAffine(
        mask.T * np.uint8(255),
        to_mask,
        (MASK_SIDE, MASK_SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return (seen > 127).astype(np.uint8).T


def decode_columns(ends: np.ndarray, height: int, first: int, stop: int) -> np.ndarray:
    """Columns `first` to `stop` (without it) of a mask, `[height, stop - first]` uint8 in {0, 1}.

    Args:
        ends: where the mask's runs end, see `run_ends`.
        height: of the mask.
        first, stop: which columns.
    """
    lengths = np.minimum(np.maximum(ends, first * height), stop * height)
    lengths[1:] -= lengths[:-1]
    lengths[0] -= first * height
    values = np.zeros(len(ends), np.uint8)
    values[1::2] = 1
    return values.repeat(lengths).reshape(stop - first, height).T


def run_ends(rles: Sequence[RLE]) -> list[np.ndarray]:
    """Where the runs of masks end, counted down the columns; runs of 0 and of 1 take turns, 0 first.

    A run's length is written as its difference from the one before the last (the first three: as it is), in digits of
    5 bits, lowest first: characters from '0' on, 32 more where another digit follows. The highest bit of the last
    digit is the sign (two's complement), see `rleToString` in pycocotools.

    Args:
        rles: COCO's compressed run lengths.

    Returns:
        `[runs]` int64 for each mask.
    """
    if not rles:
        return []
    digits = np.frombuffer(b''.join(rle['counts'] for rle in rles), np.uint8).astype(np.int64) - ord('0')
    last = np.flatnonzero(digits < 32)
    first = np.concatenate([[0], last[:-1] + 1])
    shifts = 5 * (np.arange(len(digits)) - np.repeat(first, last - first + 1))
    numbers = np.add.reduceat((digits & 31) << shifts, first) - ((digits[last] >> 4 & 1) << shifts[last] + 5)
    mask_stops = np.searchsorted(last, np.cumsum([len(rle['counts']) for rle in rles]))
    ends = np.split(numbers, mask_stops[:-1])
    for lengths in ends:
        lengths[1::2], lengths[2::2] = lengths[1::2].cumsum(), lengths[2::2].cumsum()
        lengths.cumsum(out=lengths)
    return ends

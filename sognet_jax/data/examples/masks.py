"""Instance masks seen through their boxes.

A column of a mask that pycocotools decodes is contiguous: masks are handled transposed until the end.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.contract import MASK_SIDE
from sognet_jax.data.records.relations import RLE


def masks_in_boxes(rles: Sequence[RLE], boxes: np.ndarray) -> np.ndarray:
    """Masks of one image, each seen through its box: `[n, 112, 112]` uint8 in {0, 1}.

    Boxes are `[n, 4]`, half open, in pixels of the image.
    """
    masks = np.empty((len(rles), MASK_SIDE, MASK_SIDE), np.uint8)
    for row, (rle, box) in enumerate(zip(rles, boxes, strict=True)):
        width = rle['size'][1]
        # Samples lie inside the box, and each is interpolated with its neighbours: these columns are enough.
        first = min(max(math.floor(box[0]) - 1, 0), width - 1)
        stop = max(min(math.ceil(box[2]) + 1, width), first + 1)
        window = coco_mask.decode(rle)[:, first:stop]
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
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (MASK_SIDE, MASK_SIDE)
    seen = cv2.warpAffine(mask.T * np.uint8(255), to_mask, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return (seen > 127).astype(np.uint8).T

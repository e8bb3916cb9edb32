"""Instance masks at image size, as mask AP and the merge heuristics take them (host side).

The panoptic result pastes logits and compares them with 0; for AP the published code pastes probabilities, with a
border of zeros around the box so that a mask can fade out there.
"""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

RLE = dict[str, Any]

MASK_THRESHOLD = 0.5


def original_boxes(boxes: np.ndarray, scale: float, *, inclusive: bool) -> np.ndarray:
    """Boxes in pixels of the original image: the inverse of how ground truth boxes come to the network input.

    Args:
        boxes: `[n, 4]` half-open boxes in pixels of the network input.
        scale: network input over original.
        inclusive: the published way: inclusive corners are divided by the scale (`data.inclusive_boxes`; masks are
            always pasted so, see `paste_probabilities`).
    """
    if not inclusive:
        return boxes / np.float32(scale)
    last_pixel = np.array([0, 0, 1, 1], np.float32)
    return (boxes - last_pixel) / np.float32(scale) + last_pixel


def paste_probabilities(probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Binary masks of one image from the mask head's probabilities.

    Published rounding: a border of one zero is put around the M x M probabilities, the box's inclusive corners are
    expanded by (M + 2) / M and truncated, the probabilities are resized to that box bilinearly, and those above 0.5 are
    the mask.

    Args:
        probabilities: `[n, M, M]` sigmoid outputs of the instance's own class.
        boxes: `[n, 4]` half-open boxes in pixels of the image that is pasted into.
        size: height and width of that image.

    Returns:
        `[n, height, width]` bool. Its memory is laid out so that `encode_masks` needs no copy.

    Raises:
        ValueError: the shapes are others.
    """
    count, resolution = len(boxes), probabilities.shape[-1]
    if probabilities.shape != (count, resolution, resolution) or boxes.shape != (count, 4):
        raise ValueError(f'expected probabilities [n, M, M] and boxes [n, 4], got {probabilities.shape}, {boxes.shape}')
    height, width = size
    padded = np.pad(probabilities.astype(np.float32, copy=False), ((0, 0), (1, 1), (1, 1)))
    corners = (boxes.astype(np.float64) - np.array([0, 0, 1, 1])).astype(np.float32)
    corners = expand_boxes(corners, (resolution + 2) / resolution).astype(np.int32)
    masks = np.zeros((height, width, count), bool, order='F')
    # Every box has its own size: one resize an instance.
    for index, (left, top, right, bottom) in enumerate(corners.tolist()):
        extent = (max(right - left + 1, 1), max(bottom - top + 1, 1))
        inside = cv2.resize(padded[index], extent, interpolation=cv2.INTER_LINEAR) > MASK_THRESHOLD
        rows = slice(max(top, 0), max(min(top + extent[1], height), 0))
        columns = slice(max(left, 0), max(min(left + extent[0], width), 0))
        if rows.start < rows.stop and columns.start < columns.stop:
            own = inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            masks[rows, columns, index] = own
    return np.moveaxis(masks, -1, 0)


def expand_boxes(boxes: np.ndarray, factor: float) -> np.ndarray:
    """Boxes `[n, 4]` with `factor` times the x2 - x1 and y2 - y1, about the same centres, in the dtype of the input."""
    centers = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    halves = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * factor
    return np.concatenate([centers - halves, centers + halves], axis=1)


def encode_masks(masks: np.ndarray) -> list[RLE]:
    """COCO run lengths of masks `[n, height, width]`."""
    return coco_mask.encode(np.asfortranarray(np.moveaxis(masks, 0, -1)).view(np.uint8)) if len(masks) else []

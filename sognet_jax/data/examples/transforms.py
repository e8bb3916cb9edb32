"""From a stored record to the static arrays of one training example (`sognet_jax.contract`)."""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.contract import MASK_SIDE, PANOPTIC_IGNORE, PANOPTIC_STRIDE, SEMANTIC_IGNORE, Example
from sognet_jax.data.records.relations import RLE, rle_areas
from sognet_jax.data.records.schema import InstanceAnnotations, Record


@dataclasses.dataclass(frozen=True)
class ExampleSettings:
    """Sizes of the arrays of an example, and how boxes are resized."""

    image_size: tuple[int, int]  # height and width of the padded image, divisible by 32
    # the image's shorter side is resized to `short_side` unless the longer would exceed `long_side` or the image would
    # not fit
    short_side: int
    long_side: int
    max_instances: int  # N; the smallest instances of an image with more are dropped
    num_stuff: int
    inclusive_boxes: bool = False  # boxes are resized as the published code does, see `published_frames`
    # instances own the panoptic segments that the published code finds for them, see `relations.match_segments_by_box`
    match_by_box: bool = False

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or any(side < 1 or side % 32 for side in self.image_size):
            raise ValueError(f'config field data.image_size must be two multiples of 32, not {self.image_size}')


def make_example(
    record: Record,
    settings: ExampleSettings,
    *,
    flip: bool = False,
    short_side: int | None = None,
    either_orientation: bool = False,
    pixels: bool = True,
) -> Example:
    """The arrays of the data contract for one record.

    Args:
        short_side: in place of the settings' own.
        either_orientation: turn the bucket on its side for an image that it suits better, see `oriented`.
        pixels: with `image`, `image_size`, `semantic` and `panoptic`; the relation head is trained without them.
    """
    if short_side is not None:
        settings = dataclasses.replace(settings, short_side=short_side)
    if either_orientation:
        settings = oriented(settings, record.size)
    scale, count = resize_factor(record.size, settings), settings.max_instances
    slots = choose_instances(record.instances, count)
    boxes = record.instances.box[slots]
    frames = published_frames(boxes, scale, flip) if settings.inclusive_boxes else boxes
    return {
        'scale': np.array(scale, np.float32),
        'image_id': np.array(record.image_id, np.int32),
        'original_size': np.array(record.size, np.int32),
        'mirrored': np.array(flip, bool),
        'has_instances': np.array(record.has_instances, bool),
        'has_panoptic': np.array(record.has_panoptic, bool),
        'dropped': np.array(len(record.instances.id) - len(slots), np.int32),
        **(pixel_arrays(record, slots, settings, scale, flip) if pixels else {}),
        **instance_arrays(record.instances, slots, frames, scale, width=record.size[1], flip=flip, max_instances=count),
        **relation_matrices(record, slots, count),
    }


def pixel_arrays(record: Record, slots: np.ndarray, settings: ExampleSettings, scale: float, flip: bool) -> Example:
    """The image, its size and its label maps."""
    image = record.image()
    indices = record.segment_indices() if record.has_panoptic else np.zeros(image.shape[:2], np.uint8)
    if flip:  # before resizing, where the boxes are mirrored: the resized width is rounded
        image, indices = cv2.flip(image, 1), cv2.flip(indices, 1)
    return {**image_arrays(image, scale, settings), **label_maps(indices, scale, record, slots, settings)}


def image_arrays(image: np.ndarray, scale: float, settings: ExampleSettings) -> Example:
    """An image `[h, w, 3]`, resized and padded, and the size of its valid part."""
    resized = resize_image(image, scale)
    height, width = resized.shape[:2]
    padded = np.zeros((*settings.image_size, 3), np.uint8)
    cv2.convertScaleAbs(resized, dst=padded[:height, :width])  # which rounds
    return {'image': padded, 'image_size': np.array([height, width], np.int32)}


def oriented(settings: ExampleSettings, size: tuple[int, int]) -> ExampleSettings:
    """The settings, with the bucket turned on its side where that suits an image of this height and width better."""
    height, width = settings.image_size
    lies_across = (size[0] - size[1]) * (height - width) < 0
    return dataclasses.replace(settings, image_size=(width, height)) if lies_across else settings


def resize_factor(size: tuple[int, int], settings: ExampleSettings) -> float:
    """Resized over original for an image of height and width `size`: the published rule.

    An image that would be too large for its bucket, which the published code does not have, is made to fit.
    """
    short, long = min(size), max(size)
    factor = settings.short_side / short
    if round(factor * long) > settings.long_side:
        factor = settings.long_side / long
    if any(round(factor * side) > limit for side, limit in zip(size, settings.image_size, strict=True)):
        factor = min(limit / side for side, limit in zip(size, settings.image_size, strict=True))
    return factor


def resize_image(image: np.ndarray, scale: float) -> np.ndarray:
    """The published resizing: bilinear, on float values, without antialiasing.

    `[h, w, 3]` becomes `[round(scale h), round(scale w), 3]` float32. Only the size is rounded: a point x of the image
    comes to `scale` x, as it does in boxes.
    """
    return cv2.resize(image.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def choose_instances(instances: InstanceAnnotations, max_instances: int) -> np.ndarray:
    """Indices of the instances that get a slot, in stored order: all, or the `max_instances` largest by mask area."""
    if len(instances.id) <= max_instances:
        return np.arange(len(instances.id))
    return np.sort(np.argsort(-rle_areas(instances.rles), kind='stable')[:max_instances])


def label_maps(
    indices: np.ndarray, scale: float, record: Record, slots: np.ndarray, settings: ExampleSettings
) -> Example:
    """Semantic train ids `[H, W]` and panoptic targets `[H / 4, W / 4]`, padded with what is ignored, from `[h, w]`
    rows of the record's segments + 1, 0 unlabelled, in the original size.

    Things of no kept instance are ignored in the panoptic target; crowd is labelled in the semantic one.
    """
    resized = cv2.resize(indices, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    height, width = resized.shape
    padded = np.zeros(settings.image_size, indices.dtype)  # unlabelled where the image ends
    padded[:height, :width] = resized
    quarter = padded[::PANOPTIC_STRIDE, ::PANOPTIC_STRIDE].copy()
    # As published: not rounded up.
    quarter[round(height / PANOPTIC_STRIDE) :] = 0
    quarter[:, round(width / PANOPTIC_STRIDE) :] = 0
    own_segments = record.instances.box_segment if settings.match_by_box else record.instances.segment
    # What unlabelled pixels and those of each segment become.
    semantic = np.concatenate([[SEMANTIC_IGNORE], record.segments.category]).astype(np.uint8)
    panoptic = np.where(semantic < settings.num_stuff, semantic.astype(np.int16), np.int16(PANOPTIC_IGNORE))
    rows, slot = np.nonzero(record.segments.id[:, None] == own_segments[slots])
    panoptic[rows + 1] = settings.num_stuff + slot
    if padded.dtype == np.uint8:  # where OpenCV takes a quarter of NumPy's time
        return {'semantic': cv2.LUT(padded, np.pad(semantic, (0, 256 - len(semantic)))), 'panoptic': panoptic[quarter]}
    return {'semantic': semantic[padded], 'panoptic': panoptic[quarter]}


def published_frames(boxes: np.ndarray, scale: float, flip: bool) -> np.ndarray:
    """What the published ground truth boxes enclose, in pixels of the original image.

    The published code multiplies inclusive corners by the scale, so that the half-open (x1, y1, x2, y2) becomes
    (s x1, s y1, s (x2 - 1) + 1, s (y2 - 1) + 1), and it mirrors before it resizes. So the box loses 1 - 1/s pixels at
    the bottom and at the side that is the right one after mirroring (it gains some where s < 1). Boxes under one pixel
    wide or high have equal corners. Both `boxes` and what is returned are `[n, 4]`, half open, not mirrored and not
    resized; `scale` is resized over original.
    """
    loss = np.float32(1 - 1 / scale)
    upper, lower = boxes[:, :2], np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    horizontal, vertical = np.array([[1, 0], [0, 1]], np.float32) * loss
    if flip:
        return np.concatenate([upper + horizontal, lower - vertical], axis=1)
    return np.concatenate([upper, lower - horizontal - vertical], axis=1)


def instance_arrays(
    instances: InstanceAnnotations,
    slots: np.ndarray,
    frames: np.ndarray,
    scale: float,
    *,
    width: int,
    flip: bool,
    max_instances: int,
) -> Example:
    """Boxes, classes, flags and box-framed masks, padded to `max_instances` slots, of the instances that are kept.

    `slots`, `[n]`, are their indices, `frames`, `[n, 4]`, their boxes in pixels of the original image of this width.
    """
    masks = masks_in_boxes([instances.rles[index] for index in slots], frames)
    if flip:
        frames = np.stack([width - frames[:, 2], frames[:, 1], width - frames[:, 0], frames[:, 3]], axis=-1)
        masks = masks[:, :, ::-1]
    return {
        'boxes': _pad(frames * np.float32(scale), max_instances),
        'classes': _pad(instances.category[slots], max_instances),
        'valid': np.arange(max_instances) < len(slots),
        'crowd': _pad(instances.crowd[slots], max_instances),
        'masks': _pad(masks, max_instances),
    }


def masks_in_boxes(rles: Sequence[RLE], boxes: np.ndarray) -> np.ndarray:
    """Masks of one image, each seen through its box: `[n, 112, 112]` uint8 in {0, 1}.

    Boxes are `[n, 4]`, half open, in pixels of the image.
    """
    # A column of a mask that pycocotools decodes is contiguous: masks are handled transposed until the end.
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


def relation_matrices(record: Record, slots: np.ndarray, max_instances: int) -> Example:
    """R, R*, the true order and which pairs are decided, `[N, N]` bool each."""
    slot_of = np.full(len(record.instances.id), -1)
    slot_of[slots] = np.arange(len(slots))
    pairs = record.pairs
    first, second = slot_of[pairs.first], slot_of[pairs.second]
    both = (first >= 0) & (second >= 0)
    first, second = first[both], second[both]

    def matrix(of_first: np.ndarray | bool, of_second: np.ndarray | bool) -> np.ndarray:
        filled = np.zeros((max_instances, max_instances), bool)
        filled[first, second], filled[second, first] = of_first, of_second
        return filled

    covered, truly_covered, undecided = pairs.covered[both], pairs.truly_covered[both], pairs.covered[both] < 0
    # Without a panoptic map, the data state an order where they state any.
    has_order = record.has_relations and (record.has_panoptic or bool(np.any(pairs.covered >= 0)))
    return {
        'overlap': matrix(True, True),
        'order': matrix(covered == 0, covered == 1),
        'decided': ~matrix(undecided, undecided) & has_order,
        'true_order': matrix(truly_covered == 0, truly_covered == 1),
    }


def _pad(rows: np.ndarray, count: int) -> np.ndarray:
    """The rows, and zeros after them up to `count`."""
    padded = np.zeros((count, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded

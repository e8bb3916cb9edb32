"""From a stored record to the static arrays of one training example (DESIGN: the data contract)."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.categories import IGNORE
from sognet_jax.data.schema import NO_SEGMENT, Instances, Record, Segments

MASK_SIDE = 112
PANOPTIC_STRIDE = 4
PANOPTIC_IGNORE = -1

Example = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ExampleSettings:
    """Sizes of the arrays of an example.

    Attributes:
        image_size: height and width of the padded image, divisible by 32.
        short_side, long_side: the image's shorter side is resized to `short_side` unless the longer would exceed
            `long_side` or the image would not fit.
        max_instances: N; the smallest instances of an image with more are dropped.
        num_stuff: S.
    """

    image_size: tuple[int, int]
    short_side: int
    long_side: int
    max_instances: int
    num_stuff: int


def make_example(record: Record, settings: ExampleSettings, *, flip: bool = False) -> Example:
    """The arrays of the data contract for one record.

    Args:
        record: a stored image with its annotations.
        settings: sizes.
        flip: mirror left and right.

    Returns:
        The contract's arrays, and `dropped`, the number of instances that found no slot.
    """
    image = record.image()
    original_size = image.shape[:2]
    scale = resize_factor(original_size, settings)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    size = tuple(np.minimum(image.shape[:2], settings.image_size))
    ids = np.zeros(size, np.int32)
    if record.has_panoptic:
        ids = cv2.resize(record.panoptic_ids(), (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    if flip:
        image, ids = image[:, ::-1], ids[:, ::-1]
    slots = choose_instances(record.instances, settings.max_instances)
    kept = record.instances.segment[slots]
    semantic, panoptic = label_maps(ids, record.segments, kept, settings.num_stuff)
    example = {
        'image': _pad(image[: size[0], : size[1]], settings.image_size, 0),
        'image_size': np.array(size, np.int32),
        'scale': np.float32(scale),
        'image_id': np.int32(record.image_id),
        'original_size': np.array(original_size, np.int32),
        'semantic': _pad(semantic, settings.image_size, IGNORE),
        'panoptic': _pad(panoptic, settings.image_size, PANOPTIC_IGNORE)[::PANOPTIC_STRIDE, ::PANOPTIC_STRIDE],
        'has_instances': np.bool_(record.has_instances),
        'has_panoptic': np.bool_(record.has_panoptic),
        'dropped': np.int32(len(record.instances.id) - len(slots)),
    }
    example |= instance_arrays(record.instances, slots, scale, original_size[1], flip, settings.max_instances)
    return example | relation_matrices(record, slots, settings.max_instances)


def resize_factor(size: tuple[int, int], settings: ExampleSettings) -> float:
    """Resized over original: the published rule, bounded so that the image fits."""
    short, long = min(size), max(size)
    factor = settings.short_side / short
    if round(factor * long) > settings.long_side:
        factor = settings.long_side / long
    fits = min(settings.image_size[0] / size[0], settings.image_size[1] / size[1])
    return min(factor, fits)


def choose_instances(instances: Instances, max_instances: int) -> np.ndarray:
    """Indices of the instances that get a slot, in stored order: all, or the `max_instances` largest by mask area."""
    if len(instances.id) <= max_instances:
        return np.arange(len(instances.id))
    areas = coco_mask.area(instances.rles)
    return np.sort(np.argsort(-areas.astype(np.int64), kind='stable')[:max_instances])


def label_maps(
    ids: np.ndarray, segments: Segments, slot_segments: np.ndarray, num_stuff: int
) -> tuple[np.ndarray, np.ndarray]:
    """Semantic train ids and panoptic targets of a map of segment ids.

    Thing pixels of no kept instance are ignored in the panoptic target; crowd is labelled in the semantic one.

    Args:
        ids: `[h, w]` segment ids, 0 unlabelled.
        segments: the image's segments.
        slot_segments: `[n]` the segment of each instance slot, 0 for none.
        num_stuff: S.

    Returns:
        `[h, w]` uint8 semantic (255 ignored) and `[h, w]` int16 panoptic (S + i is slot i, -1 ignored).
    """
    order = np.argsort(segments.id)
    known = np.concatenate([[NO_SEGMENT], segments.id[order]])
    semantic = np.concatenate([[IGNORE], segments.category[order]]).astype(np.uint8)
    panoptic = np.where(semantic < num_stuff, semantic.astype(np.int16), np.int16(PANOPTIC_IGNORE))
    slots = np.flatnonzero(slot_segments != NO_SEGMENT)
    panoptic[np.searchsorted(known, slot_segments[slots])] = num_stuff + slots
    position = np.searchsorted(known, ids)
    return semantic[position], panoptic[position]


def instance_arrays(
    instances: Instances, slots: np.ndarray, scale: float, width: int, flip: bool, max_instances: int
) -> Example:
    """Boxes, classes, flags and box-framed masks, padded to `max_instances` slots.

    Args:
        instances: annotations in pixels of the original image.
        slots: indices of the instances that are kept.
        scale: resized over original.
        width: of the original image, for mirroring.
        flip: mirror left and right.
        max_instances: N.
    """
    boxes = instances.box[slots]
    masks = np.zeros((max_instances, MASK_SIDE, MASK_SIDE), np.uint8)
    for row, index in enumerate(slots):
        masks[row] = mask_in_box(coco_mask.decode(instances.rles[index]), boxes[row])
    if flip:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=-1)
        masks = masks[:, :, ::-1]
    return {
        'boxes': _pad(boxes * np.float32(scale), (max_instances, 4), 0),
        'classes': _pad(instances.category[slots], (max_instances,), 0),
        'valid': np.arange(max_instances) < len(slots),
        'crowd': _pad(instances.crowd[slots], (max_instances,), False),
        'masks': masks,
    }


def mask_in_box(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A whole-image mask `[h, w]` seen through a half-open box, `[112, 112]` uint8 in {0, 1}."""
    step = np.maximum(box[2:] - box[:2], 1e-3) / MASK_SIDE
    # Output pixel u has its centre at x1 + (u + 0.5) * step; OpenCV counts pixel centres from 0.
    to_image = np.array([[step[0], 0, box[0] + 0.5 * step[0] - 0.5], [0, step[1], box[1] + 0.5 * step[1] - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    side = (MASK_SIDE, MASK_SIDE)
    return (
        cv2.warpAffine(mask * np.uint8(255), to_image, side, flags=flags, borderMode=cv2.BORDER_REPLICATE) > 127
    ).astype(np.uint8)


def relation_matrices(record: Record, slots: np.ndarray, max_instances: int) -> Example:
    """R, R*, the true order and which pairs are decided, `[N, N]` bool each."""
    slot_of = np.full(len(record.instances.id), -1)
    slot_of[slots] = np.arange(len(slots))
    pairs = record.pairs
    first, second = slot_of[pairs.first], slot_of[pairs.second]
    both = (first >= 0) & (second >= 0)
    first, second = first[both], second[both]

    def symmetric(value: np.ndarray) -> np.ndarray:
        matrix = np.zeros((max_instances, max_instances), bool)
        matrix[first, second] = matrix[second, first] = value
        return matrix

    def directed(covered: np.ndarray) -> np.ndarray:
        matrix = np.zeros((max_instances, max_instances), bool)
        matrix[first, second] = covered == 0
        matrix[second, first] = covered == 1
        return matrix

    covered = pairs.covered[both]
    has_order = record.has_instances and record.has_panoptic
    return {
        'overlap': symmetric(np.ones(len(first), bool)),
        'order': directed(covered),
        'decided': ~symmetric(covered < 0) & has_order,
        'true_order': directed(pairs.truly_covered[both]),
    }


def _pad(array: np.ndarray, size: tuple[int, ...], value: float) -> np.ndarray:
    """The array in the corner of a larger one filled with `value`; trailing axes that `size` leaves out stay."""
    padded = np.full((*size, *array.shape[len(size) :]), value, array.dtype)
    padded[tuple(slice(0, length) for length in array.shape)] = array
    return padded

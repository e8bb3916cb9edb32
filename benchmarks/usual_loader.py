"""COCO panoptic training examples made the way a PyTorch `Dataset` usually makes them, to measure ours against.

Everything happens in `load`, from the files as COCO has them: the image as float32, every instance as a dense mask of
the image's size, label maps by a loop over segments, overlaps from the dense masks, instances and segments matched by
their boxes. It is plain NumPy and OpenCV with the choices that cost least where habits differ: nearest neighbours for
masks, which stay uint8, and overlaps by one matrix product at the original resolution. It does less than
`sognet_jax.data`: there is no order R*, and instances are not padded to a fixed number. `torch.from_numpy`, which would
come last, copies nothing and is left out.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from pycocotools.coco import COCO as CocoAnnotations

from sognet_jax.categories import CategorySet
from sognet_jax.contract import SEMANTIC_IGNORE

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
OVERLAP_RATIO = 0.1


class Stopwatch:
    """Seconds spent in named parts."""

    def __init__(self) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time until the block ends to a part."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


class UsualLoader:
    """Examples of one split of a folder in COCO's layout.

    Args:
        source: the folder.
        split: its split; the panoptic annotation may be missing.
        categories: the classes.
        image_size: height and width of padded landscape images; portrait ones have them swapped.
        short_side, long_side: of resized images.
    """

    def __init__(
        self,
        source: pathlib.Path,
        split: str,
        categories: CategorySet,
        *,
        image_size: tuple[int, int],
        short_side: int,
        long_side: int,
    ) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco = CocoAnnotations(str(source / 'annotations' / f'instances_{split}.json'))
        panoptic_file = source / 'annotations' / f'panoptic_{split}.json'
        panoptic = json.loads(panoptic_file.read_text())['annotations'] if panoptic_file.is_file() else []
        self._panoptic = {annotation['image_id']: annotation for annotation in panoptic}
        self._panoptic_folder = panoptic_file.with_suffix('')
        self._image_folder = source / split
        self._ids = sorted(self._coco.imgs)
        self._train_ids = {category.id: train_id for train_id, category in enumerate(categories.all)}
        self._num_stuff = categories.num_stuff
        self._image_size, self._short_side, self._long_side = image_size, short_side, long_side

    def __len__(self) -> int:
        return len(self._ids)

    def load(self, index: int, *, flip: bool, watch: Stopwatch) -> dict[str, np.ndarray]:
        """One example; the watch gets the parts `read and decode`, `resize`, `masks`, `targets` and `padding`."""
        image_id = self._ids[index]
        annotations = self._coco.loadAnns(self._coco.getAnnIds(imgIds=image_id))
        panoptic = self._panoptic.get(image_id)
        with watch.part('read and decode'):
            file = self._image_folder / self._coco.imgs[image_id]['file_name']
            image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            png = np.zeros_like(image)
            if panoptic:
                png = cv2.imread(str(self._panoptic_folder / panoptic['file_name']))[:, :, ::-1]
        original_size = image.shape[:2]
        scale = min(self._short_side / min(original_size), self._long_side / max(original_size))
        height, width = (round(side * scale) for side in original_size)
        with watch.part('resize'):
            image = cv2.resize((image.astype(np.float32) - MEAN) / STD, (width, height))
        with watch.part('masks'):
            masks = np.zeros((len(annotations), *original_size), np.uint8)
            for row, annotation in enumerate(annotations):
                masks[row] = self._coco.annToMask(annotation)
            resized_masks = np.zeros((len(annotations), height, width), np.uint8)
            for row, mask in enumerate(masks):
                resized_masks[row] = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        with watch.part('targets'):
            x, y, box_width, box_height = np.array([a['bbox'] for a in annotations], np.float32).reshape(-1, 4).T
            boxes = np.stack([x, y, x + box_width, y + box_height], axis=-1)
            classes = np.array([self._train_ids[a['category_id']] for a in annotations], np.int64)
            semantic, targets = self._label_maps(png, panoptic['segments_info'] if panoptic else [], boxes, classes)
            semantic = cv2.resize(semantic, (width, height), interpolation=cv2.INTER_NEAREST)
            targets = cv2.resize(targets, (width, height), interpolation=cv2.INTER_NEAREST)
            overlap = _overlaps(masks)
        if flip:
            image, semantic, targets = image[:, ::-1], semantic[:, ::-1], targets[:, ::-1]
            resized_masks = resized_masks[:, :, ::-1]
            boxes[:, [0, 2]] = original_size[1] - boxes[:, [2, 0]]
        with watch.part('padding'):
            shape = self._image_size if width >= height else self._image_size[::-1]
            return {
                'image': _pad(image.transpose(2, 0, 1), shape, 0),
                'masks': _pad(resized_masks, shape, 0),
                'semantic': _pad(semantic, shape, SEMANTIC_IGNORE),
                'panoptic': _pad(targets[::4, ::4], (shape[0] // 4, shape[1] // 4), -1),
                'boxes': boxes * np.float32(scale),
                'classes': classes - self._num_stuff,
                'overlap': overlap,
            }

    def _label_maps(
        self, png: np.ndarray, segments: list[dict[str, Any]], boxes: np.ndarray, classes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Semantic train ids and panoptic targets in the original size."""
        rgb = png.astype(np.int32)
        ids = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 256 * 256 * rgb[:, :, 2]
        semantic, targets = np.full(ids.shape, SEMANTIC_IGNORE, np.uint8), np.full(ids.shape, -1, np.int16)
        for segment in segments:
            pixels = ids == segment['id']
            train_id = self._train_ids[segment['category_id']]
            semantic[pixels] = train_id
            if train_id < self._num_stuff:
                targets[pixels] = train_id
            elif np.any(classes == train_id):
                left, top, width, height = segment['bbox']
                ious = _ious(np.array([left, top, left + width, top + height], np.float32), boxes)
                targets[pixels] = self._num_stuff + np.argmax(np.where(classes == train_id, ious, -1))
        return semantic, targets


def _ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0)
    common = sides.prod(-1)
    return common / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - common)


def _overlaps(masks: np.ndarray) -> np.ndarray:
    """R of Eq. (11), `[n, n]`, from dense masks."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    areas = flat.sum(1)
    ratios = flat @ flat.T / np.maximum(np.minimum(areas[:, None], areas[None]), 1)
    return (ratios >= OVERLAP_RATIO) & ~np.eye(len(masks), dtype=bool)


def _pad(array: np.ndarray, shape: tuple[int, int], value: float) -> np.ndarray:
    """The last two axes padded to `shape` at the bottom and at the right."""
    height, width = array.shape[-2:]
    padded = np.full((*array.shape[:-2], *shape), value, array.dtype)
    padded[..., :height, :width] = array
    return padded

"""Average precision of instance masks and boxes: the official COCO evaluation, from what is in memory.

tally = InstanceTally(num_things)
for record in ...:
    tally.add(record.image_id, record.instances, Detections(classes, scores, boxes, rles))
tally.average_precision('mask').summary['AP']
"""

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sognet_jax.data.records.relations import rle_areas
from sognet_jax.data.records.schema import InstanceAnnotations

RLE = dict[str, Any]

SUMMARY_NAMES = (
    'AP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large',
    'AR_1', 'AR_10', 'AR_100', 'AR_small', 'AR_medium', 'AR_large',
)  # fmt: skip
"""The 12 numbers of the COCO summary. AP: mean over IoU 0.50:0.05:0.95; AR_k: recall with k detections an image; small
is under 32^2 pixels, large from 96^2."""

IOU_TYPES = {'mask': 'segm', 'box': 'bbox'}


@dataclasses.dataclass(frozen=True)
class Detections:
    """The detected instances of one image."""

    category: np.ndarray  # `[n]` thing class 0..T-1
    score: np.ndarray  # `[n]`
    box: np.ndarray  # `[n, 4]` half-open boxes in pixels of the original image
    rles: Sequence[RLE]  # n masks at its size


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """What the COCO evaluation says, in 0..1; NaN where there is nothing to find."""

    summary: dict[str, float]  # the numbers of `SUMMARY_NAMES`
    by_category: np.ndarray  # `[T]` AP of each thing class


class InstanceTally:
    """Collects annotations and detections image by image, then computes AP over all of them."""

    def __init__(self, num_things: int):
        self._num_things = num_things
        self._images: dict[int, dict[str, int]] = {}
        self._annotations: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []

    def add(self, image_id: int, truth: InstanceAnnotations, detections: Detections) -> None:
        """Adds one image. It must have instance annotations: without them every detection would count as wrong.

        Raises:
            ValueError: the image was added before, or lengths, classes or mask sizes do not fit; nothing is added.
        """
        if image_id in self._images:
            raise ValueError(f'image {image_id} was added before')
        for name, instances in (('annotations', truth), ('detections', detections)):
            self._check(f'{name} of image {image_id}', instances)
        sizes = {tuple(rle['size']) for rle in [*truth.rles, *detections.rles]}
        if len(sizes) > 1:
            raise ValueError(f'masks of image {image_id} have different sizes: {sorted(sizes)}')
        if len(detections.score) != len(detections.rles):
            raise ValueError(
                f'{len(detections.score)} scores for {len(detections.rles)} detections of image {image_id}'
            )
        if len(truth.crowd) != len(truth.rles):
            raise ValueError(f'{len(truth.crowd)} crowd flags for {len(truth.rles)} annotations of image {image_id}')
        height, width = sizes.pop() if sizes else (0, 0)
        self._images[image_id] = {'id': image_id, 'height': int(height), 'width': int(width)}
        self._annotations += _rows(image_id, truth, 'iscrowd', np.asarray(truth.crowd).astype(int))
        self._detections += _rows(image_id, detections, 'score', np.asarray(detections.score).astype(float))

    def __iadd__(self, other: Self) -> Self:
        self._images |= other._images
        self._annotations += other._annotations
        self._detections += other._detections
        return self

    def average_precision(self, kind: Literal['mask', 'box']) -> AveragePrecision:
        """AP of everything added so far, with the overlap of masks or of boxes.

        The areas that tell small from large are those of the masks, but for detections counted by box those of the box.
        """
        detections = self._detections
        if kind == 'box':
            detections = [row | {'area': row['bbox'][2] * row['bbox'][3]} for row in detections]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress and its table
            evaluation = COCOeval(self._dataset(self._annotations), self._dataset(detections), IOU_TYPES[kind])
            evaluation.params.catIds = list(range(self._num_things))
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        # pycocotools says -1 where there is nothing to find.
        summary = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
        precision = evaluation.eval['precision'][:, :, :, 0, -1].reshape(-1, self._num_things)
        by_category = np.where(precision[0] < 0, np.nan, precision.mean(axis=0))
        return AveragePrecision(dict(zip(SUMMARY_NAMES, summary.tolist(), strict=True)), by_category)

    def _check(self, where: str, instances: InstanceAnnotations | Detections) -> None:
        count = len(instances.rles)
        if np.shape(instances.category) != (count,) or np.shape(instances.box) != (count, 4):
            raise ValueError(
                f'{where}: {count} masks, but categories {np.shape(instances.category)} and boxes '
                f'{np.shape(instances.box)}; expected [n] and [n, 4]'
            )
        wrong = np.setdiff1d(instances.category, np.arange(self._num_things))
        if len(wrong):
            raise ValueError(f'{where}: thing classes {wrong.tolist()} are not in 0..{self._num_things - 1}')

    def _dataset(self, rows: list[dict[str, Any]]) -> COCO:
        """A COCO data set in memory; ids count from 1, because pycocotools takes 0 for "not matched"."""
        dataset = COCO()
        dataset.dataset = {
            'images': list(self._images.values()),
            # pycocotools needs no names; what stands in for it may.
            'categories': [{'id': category, 'name': str(category)} for category in range(self._num_things)],
            # Copies, because the evaluation writes into them.
            'annotations': [row | {'id': index} for index, row in enumerate(rows, start=1)],
        }
        dataset.createIndex()
        return dataset


def _rows(
    image_id: int, instances: InstanceAnnotations | Detections, name: str, values: np.ndarray
) -> list[dict[str, Any]]:
    """The instances of one image in COCO's layout, each with one more value under `name`."""
    boxes = np.asarray(instances.box, np.float64).reshape(-1, 4)
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    areas = rle_areas(instances.rles).tolist()
    columns = zip(
        np.asarray(instances.category).tolist(), corner_and_size, instances.rles, areas, values.tolist(), strict=True
    )
    return [
        {
            'image_id': image_id,
            'category_id': category,
            'bbox': box,
            'segmentation': rle,
            'area': area,
            'iscrowd': 0,
            name: value,
        }
        for category, box, rle, area, value in columns
    ]

"""Everything that an evaluation counts, image by image, and the metrics that come out."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.data.examples.transforms import choose_instances, relation_matrices
from sognet_jax.data.records.schema import InstanceAnnotations, Record
from sognet_jax.evaluation.instance_ap import SUMMARY_NAMES, Detections, InstanceTally
from sognet_jax.evaluation.order_accuracy import OrderAccuracy, OrderTally
from sognet_jax.evaluation.overlap_pixels import OverlapPixelCounts
from sognet_jax.evaluation.panoptic_quality import Matching, PanopticCounts, match_segments
from sognet_jax.evaluation.semantic_iou import class_iou, mean_iou
from sognet_jax.evaluation.summary import Metrics, panoptic_metrics
from sognet_jax.scene import Scene


@dataclasses.dataclass(frozen=True)
class ImageTruth:
    """What is annotated of one image."""

    image_id: int
    ids: np.ndarray | None  # `[h, w]` segment ids, 0 is void; None without panoptic annotation
    segments: Sequence[tuple[int, int, bool]]  # (id, semantic train id, is crowd) of each segment
    instances: InstanceAnnotations | None  # the instance annotations; None without
    # `[n]` The instances (their places in `instances`) that relations are told of: all but crowd, and no more than a
    # training example has room for
    related: np.ndarray
    own_segments: np.ndarray  # `[n]` their panoptic segments' ids, 0 where they have none
    order: np.ndarray  # `[n, n]` bool R*; i is covered by j
    true_order: np.ndarray  # the same of the order that a scene was drawn in
    decided: np.ndarray  # `[n, n]` bool, pairs of which R* is known; those that do not overlap are among them

    @property
    def best_order(self) -> tuple[np.ndarray, np.ndarray]:
        """The true order where it is known, and else R*; and of which pairs that says something, `[n, n]` bool each."""
        if self.true_order.any():
            return self.true_order, np.ones_like(self.true_order)
        return self.order, self.decided


def image_truth(record: Record, max_instances: int) -> ImageTruth:
    """What is annotated of one image, as evaluation takes it.

    Args:
        max_instances: instances that a training example has room for; relations are told of them alone.
    """
    related = related_instances(record, max_instances)
    matrices = relation_matrices(record, related, len(related))
    segments = record.segments
    return ImageTruth(
        image_id=record.image_id,
        ids=record.panoptic_ids() if record.has_panoptic else None,
        segments=list(zip(segments.id.tolist(), segments.category.tolist(), segments.crowd.tolist(), strict=True)),
        instances=record.instances if record.has_instances else None,
        related=related, own_segments=record.instances.segment[related],
        order=matrices['order'], true_order=matrices['true_order'], decided=matrices['decided'],
    )  # fmt: skip


def related_instances(record: Record, max_instances: int) -> np.ndarray:
    """`[n]` the instances that relations are told of: those that have a slot in an example, without crowd."""
    slots = choose_instances(record.instances, max_instances)
    return slots[~record.instances.crowd[slots]]


@dataclasses.dataclass(frozen=True)
class ImageResult:
    """What evaluation takes of one image."""

    scene: Scene
    true_relations: np.ndarray | None  # `[n, n]` O of `ImageTruth.related`; None for a method without
    detections: Detections
    confusion: np.ndarray | None  # `[C, C]` pixels by true and predicted class; None where that is not known
    overlap_pixels: OverlapPixelCounts | None = None  # of this image; None where nobody asked for them


class Tally:
    """Sums over images.

    Those of several hosts add up to what one would have counted, to the last digit.
    """

    def __init__(self, categories: CategorySet) -> None:
        self._categories = categories
        self._panoptic: dict[int, PanopticCounts] = {}
        self._confusion: np.ndarray | None = None
        self._instances = InstanceTally(categories.num_things)
        self._num_annotated = 0
        self._order, self._found_order = OrderTally(), OrderAccuracy()
        self._overlap_pixels = OverlapPixelCounts()

    def add(self, truth: ImageTruth, result: ImageResult) -> Matching | None:
        """Counts one image, and says which segments match; None without panoptic annotation."""
        matching = None
        if truth.ids is not None:
            matching = match_segments(truth.ids, truth.segments, result.scene.panoptic, result.scene.labels)
            self._panoptic[truth.image_id] = matching.counts(self._categories.num_classes)
        if result.confusion is not None:
            self._confusion = result.confusion + (0 if self._confusion is None else self._confusion)
        if truth.instances is not None:
            self._instances.add(truth.image_id, truth.instances, result.detections)
            self._num_annotated += 1
        if result.true_relations is not None:
            self._order.add(result.true_relations, truth.order, truth.true_order, truth.decided)
        if result.true_relations is not None and matching is not None:
            self._found_order.add(found_relations(truth, result.scene, matching), truth.order)
        if result.overlap_pixels is not None:
            self._overlap_pixels += result.overlap_pixels
        return matching

    def __iadd__(self, other: Self) -> Self:
        self._panoptic |= other._panoptic
        if other._confusion is not None:
            self._confusion = other._confusion + (0 if self._confusion is None else self._confusion)
        self._instances += other._instances
        self._num_annotated += other._num_annotated
        self._order += other._order
        self._found_order += other._found_order
        self._overlap_pixels += other._overlap_pixels
        return self

    @property
    def panoptic(self) -> PanopticCounts:
        """What panoptic quality is computed from, in the order of the images' numbers, whoever counted them."""
        counts = PanopticCounts.zeros(self._categories.num_classes)
        for image_id in sorted(self._panoptic):
            counts += self._panoptic[image_id]
        return counts

    def metrics(self) -> Metrics:
        """Every metric, in percent; NaN where there is nothing to measure."""
        metrics = panoptic_metrics(self.panoptic, self._categories)
        if self._confusion is not None:
            metrics['mIoU'] = 100 * mean_iou(self._confusion)
            names = [category.name for category in self._categories.all]
            iou = class_iou(self._confusion).tolist()
            metrics |= {f'IoU/{name}': 100 * value for name, value in zip(names, iou, strict=True)}
        if self._num_annotated:
            metrics |= self._average_precision()
        order = self._order.metrics()
        if order:
            metrics |= order | {
                'order_accuracy_predicted': 100 * self._found_order.value,
                'order_pairs_predicted': self._found_order.total,
            }
        metrics |= self._overlap_pixels.metrics()
        return {name: float(value) for name, value in metrics.items()}

    def _average_precision(self) -> Metrics:
        metrics: Metrics = {}
        for kind in ('mask', 'box'):
            found = self._instances.average_precision(kind)
            metrics |= {f'{kind}_{name}': 100 * found.summary[name] for name in SUMMARY_NAMES}
            for category, value in zip(self._categories.things, found.by_category.tolist(), strict=True):
                metrics[f'{kind}_AP/{category.name}'] = 100 * value
        return metrics


def found_relations(truth: ImageTruth, scene: Scene, matching: Matching) -> np.ndarray:
    """O of the predicted instances, for the annotated ones whose panoptic segments they match: `[n, n]`; NaN where one
    of the two was not found.
    """
    predicted_of = {
        truth.segments[true][0]: scene.found[predicted].id
        for true, predicted in zip(matching.true.tolist(), matching.predicted.tolist(), strict=True)
    }
    row_of = {segment: row for row, segment in enumerate(scene.instance_ids)}
    rows = np.array([row_of.get(predicted_of.get(int(own), -1), -1) for own in truth.own_segments], int)
    # The last row and column stand for what was not found.
    relations = np.pad(np.asarray(scene.relations, np.float64), (0, 1), constant_values=math.nan)
    return relations[np.ix_(rows, rows)]

"""What an evaluation puts on its report page: which images are the best and the worst, and their pictures."""

import dataclasses
import datetime
import importlib.metadata
from typing import Self

import jax
import ml_collections
import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.order_accuracy import OrderAccuracy
from sognet_jax.evaluation.panoptic_quality import Matching, PanopticCounts, match_segments
from sognet_jax.evaluation.summary import Metrics
from sognet_jax.evaluation.tally import ImageResult, ImageTruth
from sognet_jax.inference.prediction import WITHOUT_PANOPTIC_HEAD
from sognet_jax.pictures.drawing import panoptic_overlay, write_names
from sognet_jax.pictures.errors import SegmentErrors, error_picture, order_picture
from sognet_jax.pictures.evaluation import annotated_segments, predicted_segments
from sognet_jax.report.page import PANEL_HEIGHT, ImageCard, Report, class_rows

PACKAGES = ('jax', 'flax', 'numpy')


@dataclasses.dataclass(frozen=True)
class Judged:
    """One image and how it came out."""

    index: int  # its place in the data
    pq: float  # panoptic quality over the classes that occur in it, in percent
    truth: ImageTruth  # what is annotated
    result: ImageResult  # what was found
    matching: Matching  # what of it matches


class Extremes:
    """Keeps so many images with the lowest and with the highest panoptic quality; the others are forgotten."""

    def __init__(self, number: int, num_classes: int) -> None:
        self._number, self._num_classes = number, num_classes
        self.worst: list[Judged] = []
        self.best: list[Judged] = []

    def add(self, index: int, truth: ImageTruth, result: ImageResult, matching: Matching | None) -> None:
        """Looks at one image; without panoptic annotation it is neither good nor bad."""
        if matching is None:
            return
        counts = matching.counts(self._num_classes)
        if not counts.counted.any():
            return
        self._take([Judged(index, 100 * counts.summary()['PQ'], truth, result, matching)])

    def __iadd__(self, other: Self) -> Self:
        worst = {one.index for one in other.worst}
        self._take([*other.worst, *(one for one in other.best if one.index not in worst)])
        return self

    def _take(self, judged: list[Judged]) -> None:
        self.worst = sorted([*self.worst, *judged], key=lambda one: (one.pq, one.index))[: self._number]
        self.best = sorted([*self.best, *judged], key=lambda one: (-one.pq, one.index))[: self._number]


def make_report(
    config: ml_collections.ConfigDict,
    categories: CategorySet,
    evaluated: str,
    source: RecordSource,
    metrics: Metrics,
    counts: PanopticCounts,
    extremes: Extremes,
    *,
    is_saved: bool,
) -> Report:
    """The report of an evaluation.

    Args:
        evaluated: the checkpoint or the folder of results.
        is_saved: of saved results, whose method and device are not known here.
    """
    versions = ', '.join(f'{name} {importlib.metadata.version(name)}' for name in PACKAGES)
    facts = {
        'evaluated': evaluated,
        'data': f'{config.data.name}, {config.data.eval_split}',
        'images': str(len(source)),
        'versions': versions,
        'date': datetime.date.today().isoformat(),
    }
    if not is_saved:
        facts['method'] = _method(config.inference)
        facts['device'] = f'{jax.local_device_count()} x {jax.devices()[0].device_kind}'
    cards = {}
    for judged in [*extremes.worst, *extremes.best]:
        if judged.index not in cards:
            cards[judged.index] = image_card(source[judged.index], judged, categories)
    return Report(
        title=f'SOGNet on {config.data.name}',
        facts=facts,
        metrics=metrics,
        classes=class_rows(counts, metrics, categories),
        worst=[cards[judged.index] for judged in extremes.worst],
        best=[cards[judged.index] for judged in extremes.best],
    )


def image_card(record: Record, judged: Judged, categories: CategorySet) -> ImageCard:
    """The numbers and pictures of one image."""
    truth, result, matching = judged.truth, judged.result, judged.matching
    image, annotated, predicted = record.image(), annotated_segments(record), predicted_segments(result.scene)
    ground_truth, prediction = (
        write_names(panoptic_overlay(image, panoptic, categories, height=PANEL_HEIGHT), panoptic, categories)
        for panoptic in (annotated, predicted)
    )
    wrong_orders, known_orders, graph = None, 0, None
    if result.true_relations is not None:
        order, known = truth.best_order
        graph = order_picture(
            image, record.instances.box[truth.related], result.true_relations, order, height=PANEL_HEIGHT, known=known
        )
        accuracy = OrderAccuracy()
        accuracy.add(result.true_relations, order)
        wrong_orders, known_orders = accuracy.total - accuracy.right, accuracy.total
    return ImageCard(
        name=record.file_name, pq=judged.pq,
        true_positives=len(matching.true),
        false_positives=len(matching.wrong), false_negatives=len(matching.missed),
        wrong_orders=wrong_orders, known_orders=known_orders,
        image=image, ground_truth=ground_truth, prediction=prediction,
        errors=error_picture(
            image, annotated.ids, result.scene.panoptic, segment_errors(judged, annotated.ids), height=PANEL_HEIGHT,
            truth_names={segment: categories.all[category].name for segment, category, _ in truth.segments},
            predicted_names={segment: categories.all[category].name for segment, category in result.scene.labels},
        ),
        overlap_graph=graph,
    )  # fmt: skip


def segment_errors(judged: Judged, truth_ids: np.ndarray) -> SegmentErrors:
    """The segments of an image, `[h, w]` annotated ids, by what became of them."""
    truth, result, matching = judged.truth, judged.result, judged.matching
    true_ids = np.array([segment[0] for segment in truth.segments], np.int64)
    ids = np.array([segment for segment, _ in result.scene.labels], np.int64)
    is_crowd = np.array([segment[2] for segment in truth.segments], bool)
    # What lies on what, whatever it is called.
    nameless = match_segments(
        truth_ids,
        [(segment, 0, crowd) for segment, _, crowd in truth.segments],
        result.scene.panoptic,
        [(segment, 0) for segment, _ in result.scene.labels],
    )
    other_name = matching.true_category[nameless.true] != matching.predicted_category[nameless.predicted]
    return SegmentErrors(
        missed=true_ids[matching.missed].tolist(),
        wrong=ids[matching.wrong].tolist(),
        misnamed=ids[nameless.predicted[other_name]].tolist(),
        right=ids[matching.predicted].tolist(),
        excused=ids[matching.excused].tolist(),
        ignored=true_ids[is_crowd].tolist(),
    )


def _method(inference: ml_collections.ConfigDict) -> str:
    if inference.method in WITHOUT_PANOPTIC_HEAD:
        return inference.method
    details = [f'panoptic head {inference.panoptic_head}']
    if inference.method == 'relations':
        details += [f'resolve {inference.resolve}', f'outside {inference.outside}']
    return f'{inference.method}: {", ".join(details)}'

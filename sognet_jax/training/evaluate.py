"""Evaluation of a checkpoint: every validation image through the network, all metrics, a table and pictures."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.data.configured import example_settings, has_annotations, prepare_split
from sognet_jax.data.pipeline import evaluation_batches
from sognet_jax.data.schema import Pairs, Record
from sognet_jax.data.storage import RecordSource
from sognet_jax.evaluation import order_rules
from sognet_jax.evaluation.overlap_accuracy import OrderAccuracy, overlap_accuracy
from sognet_jax.evaluation.panoptic_quality import PanopticCounts, count_image
from sognet_jax.evaluation.semantic_iou import confusion_matrix, mean_iou
from sognet_jax.evaluation.summary import Metrics, panoptic_metrics, table, write_json
from sognet_jax.inference.predictor import Inference, Prediction, predict, relate_ground_truth
from sognet_jax.inference.segments import panoptic_segments
from sognet_jax.models.sognet import SOGNet, build_network, variable_shapes
from sognet_jax.training.checkpoints import restore_variables
from sognet_jax.training.pictures import ImageResult, evaluation_picture
from sognet_jax.visualization import write_png

Example = dict[str, np.ndarray]


@dataclasses.dataclass
class Tally:
    """What is summed up over the images of an evaluation."""

    panoptic: PanopticCounts
    confusion: np.ndarray
    overlap: list[tuple[float, float, float, float]]
    order: OrderAccuracy
    true_order: OrderAccuracy

    @classmethod
    def of_nothing(cls, num_classes: int) -> Tally:
        """The tally before the first image."""
        confusion = np.zeros((num_classes, num_classes), np.int64)
        return cls(PanopticCounts.zeros(num_classes), confusion, [], OrderAccuracy(), OrderAccuracy())


def evaluate(
    config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path, output: str | pathlib.Path, num_pictures: int = 8
) -> Metrics:
    """Evaluates a checkpoint on `data.eval_split`; prints the table, writes `metrics.json` and pictures.

    The rules that order accuracy is compared with are fitted on `data.train_split`; without its annotations they are
    left out.

    Args:
        config: an experiment of `configs/`.
        checkpoint: a run's folder or one step of it.
        output: folder for the results.
        num_pictures: how many of the first images are drawn.

    Returns:
        Every metric, in percent.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
    """
    output = pathlib.Path(output)
    categories = category_set(config.categories)
    network, variables = restore_network(config, checkpoint)
    settings = Inference(**config.inference)
    devices = jax.local_device_count()
    run = parallel_inference(network, settings)
    source = prepare_split(config, config.data.eval_split)
    train_split = config.data.train_split
    train_source = prepare_split(config, train_split) if has_annotations(config, train_split) else None
    tally = Tally.of_nothing(categories.num_classes)
    batches = evaluation_batches(
        source, example_settings(config), devices * config.eval_batch_size, workers=config.data.workers
    )
    progress = tqdm(total=len(source), desc='evaluate', unit='image')
    for batch in batches:
        results = jax.device_get(run(variables, reshape_leading(batch, (devices, -1))))
        prediction, relations = reshape_leading(results, (-1,), axes=2)
        for row in np.flatnonzero(batch['record_index'] >= 0):
            example, predicted = (jax.tree.map(lambda value: value[row], tree) for tree in (batch, prediction))  # noqa: B023
            record = source[example['record_index']]
            result = _judge(tally, record, example, predicted, relations[row], categories, settings)
            if example['record_index'] < num_pictures:
                picture = evaluation_picture(result, record, example, categories)
                output.mkdir(parents=True, exist_ok=True)
                write_png(str(output / f'{record.image_id:012d}.png'), picture)
            progress.update()
    progress.close()
    metrics = _metrics(tally, categories)
    if train_source is None:
        print(f'{config.data.source} has no {train_split} annotations, on which the order rules would be fitted')
    else:
        metrics |= _rule_metrics(train_source, source)
    write_json(output / 'metrics.json', metrics)
    print(table(metrics))
    print(f'\n{output / "metrics.json"}, and pictures of {min(num_pictures, len(source))} images beside it')
    return metrics


def restore_network(config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path) -> tuple[SOGNet, dict[str, Any]]:
    """The network of a config and its variables from a checkpoint.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
    """
    network = build_network(config.model, category_set(config.categories))
    return network, restore_variables(checkpoint, variable_shapes(network))


def parallel_inference(network: SOGNet, settings: Inference) -> Callable[[dict, Example], tuple[Prediction, jax.Array]]:
    """The compiled function `(variables, batch) -> (prediction, O of the ground truth instances)` on all local devices.

    Batches and results are `[devices, B, ...]`.
    """

    def infer(network: SOGNet, batch: dict[str, jax.Array]) -> tuple[Prediction, jax.Array]:
        prediction = predict(network, batch['image'], batch['image_size'], settings)
        return prediction, relate_ground_truth(network, batch)

    return jax.pmap(nn.apply(infer, network), in_axes=(None, 0))


def reshape_leading(tree: Any, shape: tuple[int, ...], axes: int = 1) -> Any:
    """The first `axes` axes of every array get another shape."""
    return jax.tree.map(lambda value: value.reshape(*shape, *value.shape[axes:]), tree)


def _judge(
    tally: Tally,
    record: Record,
    example: Example,
    prediction: Prediction,
    relations: np.ndarray,
    categories: CategorySet,
    settings: Inference,
) -> ImageResult:
    """Adds one image to the tally."""
    ids, segments = panoptic_segments(
        prediction.panoptic,
        prediction.instances.classes,
        num_stuff=categories.num_stuff,
        image_size=tuple(example['image_size']),
        original_size=tuple(example['original_size']),
        stuff_area_limit=settings.stuff_area_limit,
        semantic=prediction.semantic if settings.vote else None,
    )
    if record.has_panoptic:
        truth = record.segments
        tally.panoptic += count_image(
            record.panoptic_ids(),
            list(zip(truth.id, truth.category, truth.crowd, strict=True)),
            ids,
            [(segment.id, segment.category) for segment in segments],
            categories.num_classes,
        )
        tally.confusion += confusion_matrix(example['semantic'], prediction.semantic, categories.num_classes)
    real = np.flatnonzero(example['valid'] & ~example['crowd'])
    chosen = np.ix_(real, real)
    relations, order, true_order = (matrix[chosen] for matrix in (relations, example['order'], example['true_order']))
    if len(real) > 1:
        nothing = np.zeros_like(relations)
        tally.overlap.append(
            tuple(overlap_accuracy(o, truth) for truth in (order, true_order) for o in (relations, nothing))
        )
    tally.order.add(relations, order)
    tally.true_order.add(relations, true_order)
    return ImageResult(ids, segments, relations, order, true_order, real)


def _metrics(tally: Tally, categories: CategorySet) -> Metrics:
    overlap = 100 * np.mean(tally.overlap, axis=0) if tally.overlap else np.full(4, math.nan)
    metrics = panoptic_metrics(tally.panoptic, categories)
    metrics |= {'mIoU': 100 * mean_iou(tally.confusion), 'OA': overlap[0], 'OA_zero': overlap[1]}
    metrics |= {'order_accuracy': 100 * tally.order.value, 'order_pairs': float(tally.order.total)}
    if tally.true_order.total:
        metrics |= {'OA_true': overlap[2], 'OA_zero_true': overlap[3]}
        metrics |= {'order_accuracy_true': 100 * tally.true_order.value, 'order_accuracy_true_zero': 0.0}
    # O = 0 names no order, so that it is right on no pair.
    metrics['order_accuracy_zero'] = 0.0
    return {name: float(value) for name, value in metrics.items()}


def _rule_metrics(train: RecordSource, validation: RecordSource) -> Metrics:
    """Order accuracy of the simple rules, fitted on the training annotations."""
    metrics: Metrics = {}
    tables = [
        [_pair_tables(source[index]) for index in tqdm(range(len(source)), desc=f'{name} pairs', unit='image', delay=2)]
        for name, source in (('training', train), ('validation', validation))
    ]
    for suffix, which in (('', 0), ('_true', 1)):
        fitting, testing = (order_rules.PairTable.concatenate([pair[which] for pair in split]) for split in tables)
        if not len(fitting.covered) or not len(testing.covered):
            continue
        for name, fit in (('category', order_rules.fit_category_rule), ('geometry', order_rules.fit_geometry_rule)):
            accuracy = order_rules.accuracy(fit(fitting), testing)
            metrics[f'order_accuracy{suffix}_{name}_rule'] = 100 * accuracy
    return metrics


def _pair_tables(record: Record) -> tuple[order_rules.PairTable, order_rules.PairTable]:
    """The pairs of an image whose order is known: by R*, and truly."""
    pairs: Pairs = record.pairs
    tables = []
    for covered in (pairs.covered, pairs.truly_covered):
        known = covered >= 0
        ends = np.stack([pairs.first[known], pairs.second[known]], axis=-1)
        tables.append(
            order_rules.PairTable(record.instances.category[ends], record.instances.box[ends], covered[known])
        )
    return tables[0], tables[1]

"""Evaluation of a checkpoint, or of saved results: all metrics, a table, pictures."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import ml_collections

from sognet_jax.category_files import category_set
from sognet_jax.data.configured import has_annotations, prepare_split
from sognet_jax.data.records.png import encode_image
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.known_orders import rule_metrics
from sognet_jax.evaluation.saved_results import ResultsWriter, read_results
from sognet_jax.evaluation.summary import Metrics, table, verdict, write_json
from sognet_jax.evaluation.tally import ImageResult, Tally
from sognet_jax.evaluation.truth import image_truth
from sognet_jax.files import write_whole
from sognet_jax.pictures.evaluation import evaluation_picture
from sognet_jax.predictor.relations import has_relations_alone, relation_metrics
from sognet_jax.predictor.restore import restore_network
from sognet_jax.predictor.split import network_results
from sognet_jax.report.contents import Extremes, make_report
from sognet_jax.report.page import write_report

REPORTED = 12
"""Images in the report, the worst ones and as many of the best."""

Results = Iterator[tuple[int, Record, ImageResult]]
Say = Callable[[str], None]


def evaluate(
    config: ml_collections.ConfigDict,
    checkpoint: str | pathlib.Path,
    output: str | pathlib.Path,
    *,
    num_pictures: int = 8,
    save_predictions: bool = False,
    report: bool = False,
    say: Say = print,
) -> Metrics:
    """Evaluates a checkpoint on `data.eval_split`; says the table, writes `metrics.json` and pictures.

    Of a run with `train.only = 'relation'`, order accuracy on annotated instances is all there is.

    Args:
        config: an experiment of `configs/`.
        checkpoint: a run's folder or one step of it.
        output: folder for the results.
        num_pictures: how many of the first images are drawn.
        save_predictions: write `predictions/`, see `saved_results`.
        report: write `report.html`.
        say: gets the text for the console.

    Returns:
        Every metric, in percent.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
        LabelPriorError: the config's file of rules is missing or broken.
        ValueError: predictions or a report are asked of the relation head alone.
    """
    output, categories = pathlib.Path(output), category_set(config.categories)
    if has_relations_alone(config, checkpoint):
        if save_predictions or report:
            raise ValueError(f'{checkpoint}: of the relation head alone there are no predictions to save or report')
        return _evaluate_relation(config, checkpoint, output, say)
    network, variables = restore_network(config, checkpoint)
    source = prepare_split(config, config.data.eval_split)
    results = network_results(config, network, variables, source)
    if save_predictions:
        results = _saved(results, ResultsWriter(output / 'predictions', categories))
    return _evaluate(config, str(checkpoint), source, results, output, num_pictures, report, say, is_saved=False)


def evaluate_saved(
    config: ml_collections.ConfigDict,
    output: str | pathlib.Path,
    *,
    num_pictures: int = 8,
    report: bool = False,
    say: Say = print,
) -> Metrics:
    """Evaluates the `predictions/` that an earlier evaluation saved in `output`; does what `evaluate` does.

    The semantic head's mIoU is not known from them.

    Raises:
        ResultsError: results are missing or broken.
    """
    output = pathlib.Path(output)
    source = prepare_split(config, config.data.eval_split)
    predictions = output / 'predictions'
    results = read_results(predictions, category_set(config.categories), source, config.data.max_instances)
    return _evaluate(config, str(predictions), source, results, output, num_pictures, report, say, is_saved=True)


def _evaluate_relation(
    config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path, output: pathlib.Path, say: Say
) -> Metrics:
    source, train_source = prepare_split(config, config.data.eval_split), _rules_source(config, say)
    metrics = relation_metrics(config, checkpoint, source)
    if train_source is not None:
        metrics |= rule_metrics(train_source, source)
    write_json(output / 'metrics.json', metrics)
    say(table(metrics))
    say(f'\n{output / "metrics.json"}; the relation head alone, nothing else was evaluated')
    return metrics


def _evaluate(
    config: ml_collections.ConfigDict,
    evaluated: str,
    source: RecordSource,
    results: Results,
    output: pathlib.Path,
    num_pictures: int,
    report: bool,
    say: Say,
    *,
    is_saved: bool,
) -> Metrics:
    categories = category_set(config.categories)
    train_source = _rules_source(config, say)
    tally, extremes = Tally(categories), Extremes(REPORTED, categories.num_classes)
    for index, record, result in results:
        truth = image_truth(record, config.data.max_instances)
        extremes.add(index, truth, result, tally.add(truth, result))
        if index < num_pictures:
            picture = evaluation_picture(record, truth, result, categories)
            write_whole(output / f'{record.image_id:012d}.png', encode_image(picture))
    metrics = tally.metrics()
    if train_source is not None:
        metrics |= rule_metrics(train_source, source)
    write_json(output / 'metrics.json', metrics)
    if report:
        page = make_report(config, evaluated, source, metrics, tally.panoptic, extremes, is_saved=is_saved)
        write_report(page, output / 'report.html')
    say(table(metrics))
    also = ', report.html' if report else ''
    say(f'\n{output / "metrics.json"}{also}, and pictures of {min(num_pictures, len(source))} images beside it')
    says = verdict(metrics, config.expected)
    if says:
        say(f'\n{says}')
    return metrics


def _rules_source(config: ml_collections.ConfigDict, say: Say) -> RecordSource | None:
    """What the rules that order accuracy is compared with are fitted on; None without relations or annotations.

    It is prepared before the network runs, so that broken data do not cost what has been evaluated.
    """
    train_split = config.data.train_split
    if config.inference.method != 'relations':
        return None
    if not has_annotations(config, train_split):
        say(f'{config.data.source} has no {train_split} annotations, on which the order rules would be fitted')
        return None
    return prepare_split(config, train_split)


def _saved(results: Results, writer: ResultsWriter) -> Results:
    """The same results, each written as it passes."""
    for index, record, result in results:
        writer.add(record, result)
        yield index, record, result
    writer.finish()

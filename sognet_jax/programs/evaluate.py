"""Evaluates a checkpoint, or saved results: `sognet-eval --checkpoint=runs/shapes --report`."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence

import ml_collections
from absl import app, flags

from sognet_jax import hosts
from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import run_folder
from sognet_jax.data.configured import has_annotations, prepare_split
from sognet_jax.data.records.png import encode_image
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.order_rules import rule_metrics
from sognet_jax.evaluation.saved_results import ResultsWriter, read_results
from sognet_jax.evaluation.summary import Metrics, table, verdict, write_json
from sognet_jax.evaluation.tally import ImageResult, Tally, image_truth
from sognet_jax.files import write_whole
from sognet_jax.pictures.evaluation import evaluation_picture
from sognet_jax.predictor import restore_network
from sognet_jax.predictor.relations import has_relations_alone, relation_tally
from sognet_jax.predictor.split import network_results
from sognet_jax.programs import command_line
from sognet_jax.report.contents import Extremes, make_report
from sognet_jax.report.page import report_html

REPORTED = 12
"""Images in the report, the worst ones and as many of the best."""

Results = Iterator[tuple[int, Record, ImageResult]]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What an evaluation leaves."""

    folder: pathlib.Path  # gets `metrics.json` and what follows
    num_pictures: int = 8  # how many of the first images are drawn
    predictions: bool = False  # write `predictions/`, see `evaluation.saved_results`
    report: bool = False  # write `report.html`
    overlap_pixels: bool = False  # compare the ways to fuse detections on overlap pixels
    say: Say = print  # gets the text for the console


def evaluate(config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path, outputs: Outputs) -> Metrics:
    """Evaluates a run's folder, or one step of it, on `data.eval_split`: every metric, in percent.

    Of a run with `train.only = 'relation'`, order accuracy on annotated instances is all there is.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
        ValueError: the config's file of rules is missing or broken.
        ValueError: predictions, a report or overlap pixels are asked of the relation head alone.
    """
    categories = category_set(config.categories)
    if has_relations_alone(config, checkpoint):
        if outputs.predictions or outputs.report or outputs.overlap_pixels:
            raise ValueError(f'{checkpoint}: of the relation head alone there is nothing to save, report or fuse')
        return _evaluate_relation(config, categories, checkpoint, outputs)
    network, variables = restore_network(config, categories, checkpoint)
    source = hosts.first_alone_then_all(lambda: prepare_split(config, config.data.eval_split))
    compares = outputs.overlap_pixels
    results = network_results(config, categories, network, variables, source, overlap_pixels=compares)
    if outputs.predictions:
        writer = ResultsWriter(outputs.folder / 'predictions', categories, numbered=hosts.count() > 1)
        results = _saved(results, writer)
    return _evaluate(config, categories, source, results, outputs, evaluated=str(checkpoint), is_saved=False)


def evaluate_saved(config: ml_collections.ConfigDict, outputs: Outputs) -> Metrics:
    """Evaluates the `predictions/` that an earlier evaluation left in `outputs.folder`; does what `evaluate` does.

    The semantic head's mIoU is not known from them.

    Raises:
        InputError: results are missing or broken.
    """
    categories = category_set(config.categories)
    source = prepare_split(config, config.data.eval_split)
    predictions = outputs.folder / 'predictions'
    results = read_results(predictions, categories, source, config.data.max_instances)
    return _evaluate(config, categories, source, results, outputs, evaluated=str(predictions), is_saved=True)


def _evaluate_relation(
    config: ml_collections.ConfigDict, categories: CategorySet, checkpoint: str | pathlib.Path, outputs: Outputs
) -> Metrics:
    network, variables = restore_network(config, categories, checkpoint, relation_head_alone=True)
    source = hosts.first_alone_then_all(lambda: prepare_split(config, config.data.eval_split))
    train_source = _rules_source(config, outputs.say)
    tally = hosts.total(relation_tally(config, network, variables, source))
    metrics = _all_metrics(tally.metrics(), train_source, source, outputs)
    outputs.say(f'\n{outputs.folder / "metrics.json"}; the relation head alone, nothing else was evaluated')
    return metrics


def _evaluate(
    config: ml_collections.ConfigDict,
    categories: CategorySet,
    source: RecordSource,
    results: Results,
    outputs: Outputs,
    *,
    evaluated: str,
    is_saved: bool,
) -> Metrics:
    train_source = _rules_source(config, outputs.say)
    tally, extremes = Tally(categories), Extremes(REPORTED, categories.num_classes)
    for index, record, result in results:
        truth = image_truth(record, config.data.max_instances)
        extremes.add(index, truth, result, tally.add(truth, result))
        if index < outputs.num_pictures:
            picture = evaluation_picture(record, truth, result, categories)
            write_whole(outputs.folder / f'{record.image_id:012d}.png', encode_image(picture))
    tally, extremes = hosts.total(tally), hosts.total(extremes)
    metrics = _all_metrics(tally.metrics(), train_source, source, outputs)
    if outputs.report and hosts.is_first():
        page = make_report(config, categories, evaluated, source, metrics, tally.panoptic, extremes, is_saved=is_saved)
        write_whole(outputs.folder / 'report.html', report_html(page))
    elif hosts.is_first():  # it would be an earlier evaluation's
        (outputs.folder / 'report.html').unlink(missing_ok=True)
    also = ', report.html' if outputs.report else ''
    drawn = min(outputs.num_pictures, len(source))
    outputs.say(f'\n{outputs.folder / "metrics.json"}{also}, and pictures of {drawn} images beside it')
    says = verdict(metrics, config.expected)
    if says:
        outputs.say(f'\n{says}')
    return metrics


def _rules_source(config: ml_collections.ConfigDict, say: Say) -> RecordSource | None:
    """What the rules that order accuracy is compared with are fitted on; None without relations or annotations.

    It is prepared before the network runs, so that broken data do not cost what has been evaluated.
    """
    train_split = config.data.train_split
    if config.inference.method != 'relations':
        return None
    if not hosts.from_first(lambda: has_annotations(config, train_split)):
        say(f'{config.data.source} has no {train_split} annotations, on which the order rules would be fitted')
        return None
    return hosts.first_alone_then_all(lambda: prepare_split(config, train_split))


def _all_metrics(
    counted: Metrics, train_source: RecordSource | None, source: RecordSource, outputs: Outputs
) -> Metrics:
    """What was counted, and what the rules reach: written and said."""
    of_rules = {} if train_source is None else hosts.from_first(lambda: rule_metrics(train_source, source))
    metrics = counted | of_rules
    if hosts.is_first():
        write_json(outputs.folder / 'metrics.json', metrics)
    outputs.say(table(metrics))
    return metrics


def _saved(results: Results, writer: ResultsWriter) -> Results:
    """The same results, each written as it passes."""
    for index, record, result in results:
        writer.add(record, result)
        yield index, record, result
    total = hosts.total(writer)
    if hosts.is_first():
        total.finish()


def start() -> None:
    """Runs `eval.py`."""
    flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.')
    flags.DEFINE_string('output', None, 'Folder for the results; default: eval/ of the run.')
    flags.DEFINE_integer('pictures', 8, 'How many of the first images are drawn.')
    flags.DEFINE_bool('save_predictions', False, 'Write predictions/, with what the benchmark servers take.')
    flags.DEFINE_bool('report', False, 'Write report.html: numbers, classes, the worst and the best images.')
    flags.DEFINE_bool('overlap_pixels', False, 'Compare the ways to fuse detections on the pixels where they overlap.')
    flags.DEFINE_bool('only_metrics', False, 'Evaluate the predictions/ in --output, without a network.')
    command_line.run(_main, on_hosts=True)


def _main(_: Sequence[str]) -> None:
    given = flags.FLAGS
    if not (given.checkpoint or given.only_metrics and given.output):
        raise app.UsageError('--checkpoint is missing (with --only_metrics, --config and --output are enough)')
    folder = pathlib.Path(given.output or run_folder(given.checkpoint) / 'eval')
    outputs = Outputs(
        folder, num_pictures=given.pictures, predictions=given.save_predictions, report=given.report,
        overlap_pixels=given.overlap_pixels, say=print if hosts.is_first() else lambda text: None,
    )  # fmt: skip
    if given.only_metrics and (given.overlap_pixels or given.save_predictions or hosts.count() > 1):
        raise ValueError('--only_metrics runs no network: no --overlap_pixels, no --save_predictions, no other hosts')
    if given.only_metrics:
        evaluate_saved(given.config, outputs)
    else:
        evaluate(given.config, given.checkpoint, outputs)


if __name__ == '__main__':
    start()

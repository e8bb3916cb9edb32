"""Trains a network: `sognet-train --config=shapes --workdir=runs/shapes`."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags

from sognet_jax import hosts
from sognet_jax.category_files import category_set
from sognet_jax.data.configured import has_annotations, prepare_split
from sognet_jax.evaluation.summary import Metrics
from sognet_jax.evaluation.tally import Tally, image_truth
from sognet_jax.models.sognet import build_network
from sognet_jax.predictor.relations import relation_tally
from sognet_jax.predictor.split import network_results
from sognet_jax.programs import command_line
from sognet_jax.training.interruption import Interrupted
from sognet_jax.training.loop import Evaluate, Say, train

RESUMABLE = 75
"""Exit status of a run that was asked to end and has saved, EX_TEMPFAIL: a scheduler may start it again."""


def evaluation(config: ml_collections.ConfigDict, say: Say) -> Evaluate | None:
    """What a training calls to evaluate itself on the beginning of `data.eval_split`; None where it is not to."""
    if not config.train.eval_every:
        return None
    if not hosts.from_first(lambda: has_annotations(config, config.data.eval_split)):
        say(f'{config.data.source} has no {config.data.eval_split} annotations: nothing is evaluated while training')
        return None
    categories = category_set(config.categories)
    network = build_network(config.model, categories)
    whole = hosts.first_alone_then_all(lambda: prepare_split(config, config.data.eval_split))
    source = whole.first(config.train.eval_images)

    def evaluate(variables: Mapping[str, Any], gives_up: Callable[[], bool]) -> Metrics | None:
        if config.train.only == 'relation':
            tally: Any = relation_tally(config, network, variables, source, gives_up)
        else:
            tally = Tally(categories)
            for _, record, result in network_results(config, categories, network, variables, source, gives_up):
                tally.add(image_truth(record, config.data.max_instances), result)
        return None if any(hosts.gather(gives_up())) else hosts.total(tally).metrics()

    return evaluate


def start() -> None:
    """Runs `train.py`."""
    flags.DEFINE_string('workdir', None, 'Folder for checkpoints and logs; of several hosts, the first one has it.')
    flags.DEFINE_string('profile', None, 'FROM:TO, the steps of which a trace is written to profile/ in the workdir.')
    flags.mark_flag_as_required('workdir')
    command_line.run(_main, on_hosts=True)


def _main(_: Sequence[str]) -> None:
    given = flags.FLAGS
    say = functools.partial(print, file=sys.stderr, flush=True) if hosts.is_first() else lambda line: None
    profile = _profiled(given.profile)
    try:
        train(given.config, given.workdir, say=say, evaluate=evaluation(given.config, say), profile=profile)
    except Interrupted as interrupted:
        hosts.end(f'{interrupted}; the same command goes on from there', RESUMABLE)


def _profiled(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition(':')
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
        raise ValueError(f'--profile is FROM:TO, two steps such as 20:30, not {text!r}')
    return int(first), int(last)


if __name__ == '__main__':
    start()

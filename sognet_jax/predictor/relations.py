"""Evaluation of the relation head alone, on annotated instances: no image is read, nothing is detected."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from sognet_jax import hosts
from sognet_jax.categories import CategorySet
from sognet_jax.checkpoints import require_same_network, restore_variables, trained_parts
from sognet_jax.contract import FILLER, Example
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.pipeline import evaluation_batches
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.order_accuracy import OrderTally
from sognet_jax.models.sognet import RELATION_HEAD, SOGNet, build_network, initialize_relation_head, variable_shapes
from sognet_jax.predictor.split import on_local_devices, reshape_leading


def has_relations_alone(config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path) -> bool:
    """Whether the relation head is all that a checkpoint holds, or all that the config asks for.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    return config.train.only == 'relation' or hosts.from_first(lambda: trained_parts(checkpoint)) == {RELATION_HEAD}


def restore_relation_head(
    config: ml_collections.ConfigDict, categories: CategorySet, checkpoint: str | pathlib.Path
) -> tuple[SOGNet, dict[str, Any]]:
    """The network of a config and the variables of its relation head, from a checkpoint of the head or of all.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
    """
    hosts.from_first(lambda: require_same_network(checkpoint, config))
    network = build_network(config.model, categories)
    shapes = variable_shapes(network, initialize_relation_head)
    variables = hosts.from_first(lambda: restore_variables(checkpoint, shapes, RELATION_HEAD))
    return network, jax.device_put(variables)


def relation_tally(
    config: ml_collections.ConfigDict,
    network: SOGNet,
    variables: Mapping[str, Any],
    source: RecordSource,
    gives_up: Callable[[], bool] = lambda: False,
) -> OrderTally:
    """Overlap and order accuracy of a relation head on this host's images; shows progress.

    Args:
        config: an experiment.
        network, variables: of `restore_relation_head`.
        source: the images.
        gives_up: is asked after every batch whether to stop there.
    """
    relate = _parallel_relations(network)
    variables = on_local_devices(variables)
    devices = jax.local_device_count()
    batches = evaluation_batches(
        source, example_settings(config), devices * config.eval_batch_size, host=jax.process_index(),
        num_hosts=hosts.count(), workers=config.data.workers, pixels=False,
    )  # fmt: skip
    tally = OrderTally()
    share = -(-len(source) // hosts.count())
    with (
        contextlib.closing(batches),
        tqdm(total=share, desc='evaluate', unit='image', delay=2, disable=not hosts.is_first()) as progress,
    ):
        for batch in batches:
            if gives_up():
                break
            relations = jax.device_get(relate(variables, reshape_leading(batch, (devices, -1))))
            relations = relations.reshape(-1, *relations.shape[2:])
            rows = np.flatnonzero(batch['record_index'] != FILLER)
            for row in rows:
                real = np.flatnonzero(batch['valid'][row] & ~batch['crowd'][row])
                matrices = relations[row], *(batch[name][row] for name in ('order', 'true_order', 'decided'))
                tally.add(*(matrix[np.ix_(real, real)] for matrix in matrices))
            progress.update(len(rows))
    return tally


@functools.lru_cache(maxsize=1)
def _parallel_relations(network: SOGNet) -> Callable[[Any, Example], jax.Array]:
    """The compiled function `(variables, batch) -> O` on all local devices; kept for the next evaluation."""
    relate = nn.apply(lambda network, batch: network.relate_annotated(batch).matrix, network)
    return jax.pmap(relate, axis_name='device', in_axes=(None, 0), devices=jax.local_devices())

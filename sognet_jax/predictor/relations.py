"""Evaluation of the relation head alone, on annotated instances: no image is read, nothing is detected."""

from __future__ import annotations

import pathlib

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.checkpoints import require_same_network, restore_variables, trained_parts
from sognet_jax.contract import FILLER
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.pipeline import evaluation_batches
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.order_accuracy import OrderTally
from sognet_jax.evaluation.summary import Metrics
from sognet_jax.models.sognet import RELATION_HEAD, build_network, initialize_relation_head, variable_shapes
from sognet_jax.predictor.split import reshape_leading


def has_relations_alone(config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path) -> bool:
    """Whether the relation head is all that a checkpoint holds, or all that the config asks for.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    return config.train.only == 'relation' or trained_parts(checkpoint) == {RELATION_HEAD}


def relation_metrics(
    config: ml_collections.ConfigDict,
    categories: CategorySet,
    checkpoint: str | pathlib.Path,
    source: RecordSource,
) -> Metrics:
    """Overlap and order accuracy of a checkpoint's relation head, in percent; shows progress.

    Args:
        config: an experiment.
        categories: its classes.
        checkpoint: of the head alone or of the whole network.
        source: the images.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
    """
    require_same_network(checkpoint, config)
    network = build_network(config.model, categories)
    variables = restore_variables(checkpoint, variable_shapes(network, initialize_relation_head), RELATION_HEAD)
    relate = jax.pmap(
        nn.apply(lambda network, batch: network.relate_annotated(batch).matrix, network), in_axes=(None, 0)
    )
    devices = jax.local_device_count()
    batches = evaluation_batches(
        source, example_settings(config), devices * config.eval_batch_size, workers=config.data.workers, pixels=False
    )
    tally = OrderTally()
    with tqdm(total=len(source), desc='evaluate', unit='image', delay=2) as progress:
        for batch in batches:
            relations = jax.device_get(relate(variables, reshape_leading(batch, (devices, -1))))
            relations = relations.reshape(-1, *relations.shape[2:])
            rows = np.flatnonzero(batch['record_index'] != FILLER)
            for row in rows:
                real = np.flatnonzero(batch['valid'][row] & ~batch['crowd'][row])
                matrices = relations[row], *(batch[name][row] for name in ('order', 'true_order', 'decided'))
                tally.add(*(matrix[np.ix_(real, real)] for matrix in matrices))
            progress.update(len(rows))
    return tally.metrics()

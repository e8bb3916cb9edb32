"""Evaluation of the relation head alone, on annotated instances: no image is read, nothing is detected."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from sognet_jax import hosts
from sognet_jax.checkpoints import trained_parts
from sognet_jax.contract import FILLER, Example
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.order_accuracy import OrderTally
from sognet_jax.models.sognet import RELATION_HEAD, SOGNet
from sognet_jax.predictor.split import reshape_leading, split_batches, to_devices


def has_relations_alone(config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path) -> bool:
    """Whether the relation head is all that a checkpoint holds, or all that the config asks for.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    return config.train.only == 'relation' or hosts.from_first(lambda: trained_parts(checkpoint)) == {RELATION_HEAD}


def relation_tally(
    config: ml_collections.ConfigDict,
    network: SOGNet,
    variables: Mapping[str, Any],
    source: RecordSource,
    gives_up: Callable[[], bool] = lambda: False,
) -> OrderTally:
    """Overlap and order accuracy of a relation head on this host's images; shows progress.

    Args:
        network, variables: of `predictor.restore_network`.
        gives_up: is asked before every batch whether to stop there.
    """
    relate = _parallel_relations(network)
    variables = hosts.on_its_devices(variables)
    tally = OrderTally()
    for batch in split_batches(config, source, gives_up, pixels=False):
        relations = reshape_leading(jax.device_get(relate(variables, to_devices(batch))), (-1,), axes=2)
        for row in np.flatnonzero(batch['record_index'] != FILLER):
            real = np.flatnonzero(batch['valid'][row] & ~batch['crowd'][row])
            matrices = relations[row], *(batch[name][row] for name in ('order', 'true_order', 'decided'))
            tally.add(*(matrix[np.ix_(real, real)] for matrix in matrices))
    return tally


@functools.lru_cache(maxsize=1)
def _parallel_relations(network: SOGNet) -> Callable[[Any, Example], jax.Array]:
    """The compiled function `(variables, batch) -> O` on all local devices; kept for the next evaluation."""
    relate = nn.apply(lambda network, batch: network.relate_annotated(batch).matrix, network)
    return jax.pmap(relate, axis_name='device', in_axes=(None, 0), devices=jax.local_devices())

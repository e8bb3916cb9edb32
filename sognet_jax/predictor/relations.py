"""The relation head alone, on annotated instances and on anybody's: no image is read, nothing is detected."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from sognet_jax import hosts
from sognet_jax.categories import CategorySet
from sognet_jax.checkpoints import trained_parts
from sognet_jax.contract import FILLER, Example, map_arrays
from sognet_jax.data.examples.transforms import instance_arrays
from sognet_jax.data.records.relations import RLE, rle_boxes
from sognet_jax.data.records.schema import InstanceAnnotations
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.order_accuracy import OrderTally
from sognet_jax.models.sognet import RELATION_HEAD, SOGNet
from sognet_jax.predictor.split import reshape_leading, split_batches, to_devices

MOST_INSTANCES = 1024
"""Of an image: each is compared with each."""


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


def relate_instances(
    network: SOGNet, variables: Mapping[str, Any], categories: CategorySet, masks: Sequence[RLE], names: Sequence[str],
    pairs: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """`[n, n]` float32, O of the instances of an image: i is covered by j.

    Args:
        network, variables: of `predictor.restore_network`; those of the relation head are enough.
        categories: of the network, see `CategorySet.thing_numbers`.
        masks, names: of the n instances and of their classes.
        pairs: `[n, n]` bool, those that take part (`order.rules.pairs_taking_part`); O is 0 elsewhere.

    Raises:
        ValueError: the network has no class of a name, or there are too many instances.
    """
    count = len(masks)
    if count > MOST_INSTANCES:
        raise ValueError(f'{count} instances, at most {MOST_INSTANCES}: leave out those with the lowest scores')
    boxes, slots = rle_boxes(masks), np.arange(count)
    classes = categories.thing_numbers(names)
    instances = InstanceAnnotations(slots, classes, np.zeros(count, bool), boxes, list(masks))
    room = max(16, 1 << (count - 1).bit_length())  # a program is compiled for each power of two
    example = instance_arrays(instances, slots, boxes, 1.0, width=0, flip=False, max_instances=room)
    example['overlap'] = np.ones((room, room), bool)
    relations = jax.jit(_relations(network))(variables, map_arrays(lambda array: array[None], example))
    return np.where(pairs, jax.device_get(relations)[0, :count, :count], np.float32(0))


@functools.lru_cache(maxsize=1)
def _parallel_relations(network: SOGNet) -> Callable[[Any, Example], jax.Array]:
    """The compiled function `(variables, batch) -> O` on all local devices; kept for the next evaluation."""
    return jax.pmap(_relations(network), axis_name='device', in_axes=(None, 0), devices=jax.local_devices())


@functools.lru_cache(maxsize=4)
def _relations(network: SOGNet) -> Callable[[Any, Example], jax.Array]:
    """The function `(variables, batch) -> O`; the same one again, as what is compiled for it is kept."""
    return nn.apply(lambda network, batch: network.relate_annotated(batch).matrix, network)

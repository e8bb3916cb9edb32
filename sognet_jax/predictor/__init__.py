"""What a trained network says: of one image, of every image of a split, of annotated instances."""

import pathlib
from typing import Any

import jax
import ml_collections

from sognet_jax import hosts
from sognet_jax.categories import CategorySet
from sognet_jax.checkpoints import require_same_network, restore_variables
from sognet_jax.models.sognet import SOGNet, build_network, initialize, initialize_relation_head, variable_shapes


def restore_network(
    config: ml_collections.ConfigDict,
    categories: CategorySet,
    checkpoint: str | pathlib.Path,
    *,
    relation_head_alone: bool = False,
) -> tuple[SOGNet, dict[str, Any]]:
    """The network of a config and its variables from a checkpoint.

    Args:
        checkpoint: a run's folder or one step of it.
        relation_head_alone: that head's variables are all that is wanted, and that the checkpoint has to hold.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
    """
    hosts.from_first(lambda: require_same_network(checkpoint, config))
    network = build_network(config.model, categories)
    shapes = variable_shapes(network, initialize_relation_head if relation_head_alone else initialize)
    variables = hosts.from_first(lambda: restore_variables(checkpoint, shapes, partly=relation_head_alone))
    return network, jax.device_put(variables)

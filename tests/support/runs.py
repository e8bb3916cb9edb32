"""Checkpoints of networks that nobody trained."""

import orbax.checkpoint as ocp

from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import describe, save_variables
from sognet_jax.models.sognet import build_network, initialize
from tests.support.examples import tiny_config


def save_fresh_run(config, workdir, step=3):
    """Leaves a checkpoint of fresh parameters in a run's folder, which is returned."""
    with ocp.StandardCheckpointer() as checkpointer:
        network = build_network(config.model, category_set(config.categories))
        checkpointer.save(workdir / 'checkpoints' / str(step) / 'state', initialize(network, 0))
    return workdir


def save_tiny_network(folder, **inference):
    """Leaves a checkpoint of the tiny network, for images of 64 x 96, that says what it belongs to."""
    config = tiny_config()
    config.data.image_size, config.data.long_side = (64, 96), 96
    config.inference.update(**inference)
    categories = category_set(config.categories)
    save_variables(folder, initialize(build_network(config.model, categories), 0), describe(config, categories))
    return folder

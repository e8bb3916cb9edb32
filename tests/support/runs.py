"""Runs that nobody trained: a checkpoint of fresh parameters."""

import orbax.checkpoint as ocp

from sognet_jax.category_files import category_set
from sognet_jax.models.sognet import build_network, initialize


def save_fresh_run(config, workdir, step=3):
    """Leaves a checkpoint of fresh parameters in a run's folder, which is returned."""
    with ocp.StandardCheckpointer() as checkpointer:
        network = build_network(config.model, category_set(config.categories))
        checkpointer.save(workdir / 'checkpoints' / str(step) / 'state', initialize(network, 0))
    return workdir

"""The format on disk, and the only place that knows it: Orbax checkpoints that say what they are of.

A checkpoint holds the training state, or variables alone, with the config and the categories that they belong to. The
stream of batches is a function of the seed and the step (`data.examples.pipeline`): the state's step says where it was.
"""

from sognet_jax.checkpoints.arrays import newest_whole, restore_variables, save_variables, trained_parts
from sognet_jax.checkpoints.description import Description, describe, require_same_network, stored_config
from sognet_jax.checkpoints.folders import CheckpointError, DamagedError, latest_step, run_folder, step_folder
from sognet_jax.checkpoints.run import Checkpoints

__all__ = [
    'CheckpointError', 'Checkpoints', 'DamagedError', 'Description', 'describe', 'latest_step', 'newest_whole',
    'require_same_network',
    'restore_variables', 'run_folder', 'save_variables', 'step_folder', 'stored_config', 'trained_parts',
]  # fmt: skip

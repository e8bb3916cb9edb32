"""Trains a network: `python train.py --config=configs/shapes.py --workdir=runs/shapes`.

Fields of the config are overridden as `--config.optimizer.learning_rate=0.02`. Started again with the same workdir,
training goes on from the newest checkpoint.
"""

import functools
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.training.loop import train

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment: configs/NAME.py or configs/NAME.py:VARIANT.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for checkpoints and TensorBoard files.')


def main(arguments: list[str]) -> None:
    """Trains as the flags say."""
    choose_eigen()
    logging.set_verbosity(logging.ERROR)  # tfds and Orbax narrate every step; what fails is raised
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    train(CONFIG.value, WORKDIR.value, say=functools.partial(print, file=sys.stderr, flush=True))


if __name__ == '__main__':
    flags.mark_flags_as_required(['config', 'workdir'])
    app.run(main)

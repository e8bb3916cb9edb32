"""Trains a network: `python train.py --config=configs/shapes.py --workdir=runs/shapes`.

Fields of the config are overridden as `--config.optimizer.learning_rate=0.02`. Started again with the same workdir,
training goes on from the newest checkpoint.
"""

import functools
import sys
from collections.abc import Sequence

from absl import flags

from sognet_jax.programs import command_line
from sognet_jax.training.loop import train

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for checkpoints and TensorBoard files.', required=True)


def main(arguments: Sequence[str]) -> None:
    """Trains as the flags say."""
    config = flags.FLAGS.config
    train(config, WORKDIR.value, say=functools.partial(print, file=sys.stderr, flush=True))


if __name__ == '__main__':
    command_line.run(main)

"""Trains a network: `sognet-train --config=shapes --workdir=runs/shapes`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from absl import flags

from sognet_jax.programs import command_line
from sognet_jax.training.loop import train


def start() -> None:
    """Runs `train.py`."""
    flags.DEFINE_string('workdir', None, 'Folder for checkpoints and TensorBoard files.', required=True)
    command_line.run(_main)


def _main(_: Sequence[str]) -> None:
    given = flags.FLAGS
    train(given.config, given.workdir, say=functools.partial(print, file=sys.stderr, flush=True))


if __name__ == '__main__':
    start()

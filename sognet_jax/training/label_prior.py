"""Finds out which categories lie on which: `python -m sognet_jax.training.label_prior --config=CONFIG --output=FILE`.

Looks at every overlapping pair of the training annotations whose order is known (R*), and writes a rule for each pair
of categories of which one is nearly always in front. `--config.inference.method=label_prior` reads the file.
"""

from __future__ import annotations

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax.training.rule_mining import mine

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment: configs/NAME.py or configs/NAME.py:VARIANT.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the rules.')
LEAST_PAIRS = flags.DEFINE_integer('least_pairs', 10, 'A rule needs so many overlaps of its two categories.')
LEAST_SHARE = flags.DEFINE_float('least_share', 0.9, 'In this share of them the same category lies in front.', 0.5, 1)


def main(arguments: list[str]) -> None:
    """Writes the file as the flags say."""
    logging.set_verbosity(logging.ERROR)  # tfds narrates every step; what fails is raised
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    try:
        mine(CONFIG.value, OUTPUT.value, least_pairs=LEAST_PAIRS.value, least_share=LEAST_SHARE.value)
    except (ValueError, OSError) as error:
        sys.exit(f'{error}')


if __name__ == '__main__':
    flags.mark_flags_as_required(['config', 'output'])
    app.run(main)

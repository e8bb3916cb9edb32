"""Finds out which categories lie on which: `python -m sognet_jax.training.label_prior --config=CONFIG --output=FILE`.

Looks at every overlapping pair of the training annotations whose order is known (R*), and writes a rule for each pair
of categories of which one is nearly always in front. `--config.inference.method=label_prior` reads the file.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import ml_collections
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.data.configured import prepare_split
from sognet_jax.evaluation.order_rules import PairTable, count_covers
from sognet_jax.files import write_whole
from sognet_jax.training.known_orders import known_pairs

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


def mine(
    config: ml_collections.ConfigDict, output: str | pathlib.Path, *, least_pairs: int = 10, least_share: float = 0.9
) -> None:
    """Writes the rules that hold on `data.train_split` of a config.

    Args:
        config: an experiment.
        output: JSON file.
        least_pairs, least_share: how many overlaps, and in which share of them one side has to be in front.

    Raises:
        ValueError: no overlapping pair has a known order, or a field of the config cannot be used.
        AnnotationError: the data are missing or broken.
    """
    categories = category_set(config.categories)
    table, _ = known_pairs(prepare_split(config, config.data.train_split), 'training')
    if not len(table.covered):
        raise ValueError(f'{config.data.train_split}: of no overlapping pair is it known which lies in front')
    rules = find_rules(table, categories, least_pairs, least_share)
    lines = ',\n'.join(f'  {json.dumps(rule)}' for rule in rules)
    header = f'"data": {json.dumps(f"{config.data.name} {config.data.train_split}")}, "pairs": {len(table.covered)}'
    write_whole(output, f'{{{header}, "rules": [\n{lines}\n]}}\n')
    print(f'{output}: {len(rules)} rules, from {len(table.covered)} overlapping pairs')


def find_rules(table: PairTable, categories: CategorySet, least_pairs: int, least_share: float) -> list[dict[str, Any]]:
    """The rules that pairs of known order give, those with the most pairs first; see `inference.label_prior`."""
    covers = count_covers(table, categories.num_things).T  # [a, b]: a lay on b
    pairs = covers + covers.T
    share = covers / np.maximum(pairs, 1)
    on, under = np.nonzero((pairs >= least_pairs) & (share >= least_share) & (share > 0.5))
    rules = [
        {
            'on': categories.things[a].name,
            'under': categories.things[b].name,
            'pairs': int(pairs[a, b]),
            'share': round(float(share[a, b]), 4),
        }
        for a, b in zip(on, under, strict=True)
    ]
    return sorted(rules, key=lambda rule: (-rule['pairs'], rule['on'], rule['under']))


if __name__ == '__main__':
    flags.mark_flags_as_required(['config', 'output'])
    app.run(main)

"""Rules about which category lies on which, from training annotations: see `inference.label_prior`."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import ml_collections
import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.data.configured import prepare_split
from sognet_jax.evaluation.order_rules import PairTable, count_covers
from sognet_jax.files import write_whole
from sognet_jax.training.known_orders import known_pairs


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

r"""Finds out which categories lie on which.

    python -m sognet_jax.programs.mine_label_prior --config=configs/coco_r50.py --output=label_prior.json

Looks at every overlapping pair of the training annotations whose order is known (R*), and writes a rule for each pair
of categories of which one is nearly always in front. `--config.inference.method=label_prior` reads the file.
"""

import json
import pathlib
from collections.abc import Sequence

import ml_collections
from absl import flags

from sognet_jax.category_files import category_set
from sognet_jax.data.configured import prepare_split
from sognet_jax.evaluation.order_rules import find_rules, known_pairs
from sognet_jax.files import write_whole
from sognet_jax.programs import command_line


def mine(
    config: ml_collections.ConfigDict, output: str | pathlib.Path, *, least_pairs: int = 10, least_share: float = 0.9
) -> tuple[int, int]:
    """Writes the rules of `data.train_split`: of so many overlaps, at least such a share has one side in front.

    Returns:
        How many rules there are, and of how many pairs.

    Raises:
        ValueError: no overlapping pair has a known order, or a field of the config cannot be used.
        InputError: the data are missing or broken.
    """
    categories = category_set(config.categories)
    table, _ = known_pairs(prepare_split(config, config.data.train_split), 'training')
    if not len(table.covered):
        raise ValueError(f'{config.data.train_split}: of no overlapping pair is it known which lies in front')
    rules = find_rules(table, categories, least_pairs, least_share)
    lines = ',\n'.join(f'  {json.dumps(rule)}' for rule in rules)
    header = f'"data": {json.dumps(f"{config.data.name} {config.data.train_split}")}, "pairs": {len(table.covered)}'
    write_whole(output, f'{{{header}, "rules": [\n{lines}\n]}}\n')
    return len(rules), len(table.covered)


def _main(_: Sequence[str]) -> None:
    given = flags.FLAGS
    rules, pairs = mine(given.config, given.output, least_pairs=given.least_pairs, least_share=given.least_share)
    print(f'{given.output}: {rules} rules, from {pairs} overlapping pairs')


def start() -> None:
    """Runs the program."""
    flags.DEFINE_string('output', None, 'JSON file for the rules.', required=True)
    flags.DEFINE_integer('least_pairs', 10, 'A rule needs so many overlaps of its two categories.')
    flags.DEFINE_float('least_share', 0.9, 'In this share of them the same category lies in front.', 0.5, 1)
    command_line.run(_main)


if __name__ == '__main__':
    start()

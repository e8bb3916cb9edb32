"""The paper's Tables 1 and 2 on the drawn shapes: `python -m sognet_jax.programs.tables`, or `make tables`.

Trains every network in sequence, evaluates it, and writes a page of results. An interrupted run goes on where it was.
"""

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Sequence

from absl import logging

from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.data.configured import prepare_split
from sognet_jax.evaluation.order_rules import order_agreement
from sognet_jax.files import write_whole
from sognet_jax.programs.tables.page import results_page
from sognet_jax.programs.tables.rows import ROWS, row_config
from sognet_jax.programs.tables.runs import run_all


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    choose_eigen()
    parser = argparse.ArgumentParser(prog='python -m sognet_jax.programs.tables', description=__doc__)
    parser.add_argument('--workdir', type=pathlib.Path, default='runs/tables', help='folder for the trained networks')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='one network of each kind for each')
    parser.add_argument('--output', type=pathlib.Path, default='docs/results.md', help='the page of results')
    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)  # tfds and Orbax narrate every step; what fails is raised
    try:
        results = run_all(options.workdir, options.seeds)
    except ValueError as error:
        sys.exit(f'{error}')
    config = row_config(ROWS[0], options.seeds[0], '')
    validation = prepare_split(config, config.data.eval_split)
    page = results_page(results, options.seeds, 100 * order_agreement(validation), len(validation))
    write_whole(options.output, page)
    print(page)


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
        sys.exit()
    sys.exit('interrupted; the same command goes on from here')

"""The paper's Tables 1 and 2 on drawn scenes, and the nearest rival: `python -m benchmarks.tables`, or `make tables`.

Trains and evaluates every network in a process of its own, and writes a page of results. What is done is not done
again.
"""

import argparse
import contextlib
import pathlib
import sys

from benchmarks.tables.gap import read_gaps
from benchmarks.tables.page import results_page
from benchmarks.tables.runs import Results, run_all
from sognet_jax.files import write_whole


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.tables', description=__doc__)
    parser.add_argument('--workdir', type=pathlib.Path, default='runs/tables', help='folder for the trained networks')
    parser.add_argument('--results', type=pathlib.Path, default='benchmarks/results/tables', help='metrics of each run')
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4], help='one network of each kind for each'
    )
    parser.add_argument('--output', type=pathlib.Path, default='docs/results.md', help='the page of results')
    parser.add_argument('--page', action='store_true', help='no training: write the page of the runs that are there')
    options = parser.parse_args()
    try:
        if not options.page:
            run_all(options.results, options.workdir, options.seeds)
        page = results_page(
            Results(options.results, options.seeds), read_gaps(options.results), options.output.parent / 'figures'
        )
    except ValueError as error:
        sys.exit(f'{error}')
    write_whole(options.output, page)
    print(page)


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
        sys.exit()
    sys.exit('interrupted; the same command goes on from here')

"""Trains and evaluates every row of the tables in sequence; what is done is not done again."""

import functools
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Sequence

import jax

from sognet_jax.checkpoints import latest_step
from sognet_jax.evaluation.summary import Metrics
from sognet_jax.files import write_whole
from sognet_jax.programs.evaluate import Outputs, evaluate
from sognet_jax.programs.mine_label_prior import mine
from sognet_jax.programs.tables.rows import LABEL_PRIOR, ROWS, STEPS, Row, row_config
from sognet_jax.training.loop import train


def run_all(workdir: pathlib.Path, seeds: Sequence[int]) -> dict[tuple[str, int], Metrics]:
    """The metrics of every row, by its title, with every seed. Started again, the work goes on where it was.

    Raises:
        ValueError: the folder has networks of another recipe.
    """
    workdir = workdir.resolve()
    # Runs of one variant share their compiled programs.
    jax.config.update('jax_compilation_cache_dir', str(workdir / 'compiled'))
    prior = workdir / LABEL_PRIOR
    _require_same_recipe(workdir / 'recipe.sha256')
    if not prior.is_file():
        mine(row_config(ROWS[0], 0, str(prior)), prior)
    work = [(row, seed) for seed in seeds for row in ROWS]
    files = {_metrics_file(workdir, *item) for item in work}  # some rows of different tables are the same
    todo = sum(not file.is_file() for file in files)
    metrics: dict[tuple[str, int], Metrics] = {}
    started, done = time.monotonic(), 0
    for row, seed in work:
        file = _metrics_file(workdir, row, seed)
        if not file.is_file():
            left = f'; {(time.monotonic() - started) / done * (todo - done) / 60:.0f} minutes left' if done else ''
            print(f'[{done + 1}/{todo}] {row.title}, seed {seed}{left}', flush=True)
            _run(row, seed, file.parent, str(prior))
            done += 1
        metrics[row.title, seed] = json.loads(file.read_text())
    return metrics


def run_folder(workdir: pathlib.Path, variant: str, seed: int) -> pathlib.Path:
    """Where a network is trained."""
    return workdir / f'{variant or "sognet"}_{seed}'


def _metrics_file(workdir: pathlib.Path, row: Row, seed: int) -> pathlib.Path:
    return run_folder(workdir, row.variant, seed) / row.evaluation / 'metrics.json'


def _run(row: Row, seed: int, output: pathlib.Path, prior: str) -> None:
    """Trains the row's network unless that has been done, and evaluates it."""
    config, folder = row_config(row, seed, prior), output.parent
    if latest_step(folder) != STEPS:
        train(config, folder, say=functools.partial(print, file=sys.stderr, flush=True))
    compares = config.inference.method == 'relations'
    evaluate(config, folder, Outputs(output, num_pictures=0, overlap_pixels=compares, say=lambda table: None))


def _require_same_recipe(file: pathlib.Path) -> None:
    """Keeps the configs of all rows in a file, and refuses to go on in a folder where they were others.

    Raises:
        ValueError: the folder belongs to another recipe.
    """
    configs = [row_config(row, 0, LABEL_PRIOR).to_json(sort_keys=True) for row in ROWS]
    recipe = hashlib.sha256('\n'.join(configs).encode()).hexdigest()
    if file.is_file() and file.read_text().strip() != recipe:
        raise ValueError(f'{file.parent}: the networks in this folder were trained by another recipe; name another one')
    write_whole(file, f'{recipe}\n')

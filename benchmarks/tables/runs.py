"""All networks of the tables, one process after the other; what is done is not done again, and the dead are counted."""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.tables.rows import NETWORKS, ROWS, Network, Row
from benchmarks.tables.run import read_document
from sognet_jax.evaluation.summary import Metrics
from sognet_jax.files import write_whole
from sognet_jax.programs.train import RESUMABLE

SILENT = 5.0
"""Percent of related pairs below which a network that was taught the order has not learned it."""

TEACHES_ORDER = ('', 'box', 'category', 'both')
"""Variants whose relation head is taught by R*."""


class Results:
    """The metrics of every run that is there, one JSON file each in a folder.

    Raises:
        ValueError: a file is of another recipe.
    """

    def __init__(self, folder: pathlib.Path, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)
        self._documents = {}
        self.dead: list[str] = []
        for network in NETWORKS:
            for seed in seeds:
                file = results_file(folder, network, seed)
                if file.is_file():
                    self._add(network, seed, file)

    def _add(self, network: Network, seed: int, file: pathlib.Path) -> None:
        document = read_document(file, network)
        if 'died' in document:
            self.dead.append(f'{network.name} with seed {seed} ({document["died"]})')
            return
        related = document['evaluations'].get('eval', {}).get('pairs_related', 0.0)
        if network.variant in TEACHES_ORDER and related < SILENT:
            self.dead.append(f'{network.name} with seed {seed} (relates {related:.1f} % of the pairs)')
        else:
            self._documents[network, seed] = document

    def values(self, row: Row, metric: str) -> dict[int, float]:
        """A metric of a row by the seeds whose run lives."""
        found = {}
        for seed in self.seeds:
            metrics = self.metrics(row, seed)
            if metric in metrics:
                found[seed] = metrics[metric]
        return found

    def metrics(self, row: Row, seed: int) -> Metrics:
        """All metrics of a run of a row; {} where there is none."""
        document = self._documents.get((row.network, seed))
        return document['evaluations'].get(row.evaluation, {}) if document else {}

    @property
    def count(self) -> int:
        """Runs that live."""
        return len(self._documents)

    @property
    def hours(self) -> float:
        """That the living runs took."""
        return sum(document['minutes'] for document in self._documents.values()) / 60


def run_all(folder: pathlib.Path, workdir: pathlib.Path, seeds: Sequence[int]) -> None:
    """Runs what is missing, seed by seed. A run that fails leaves a file that says so, and the next one follows."""
    missing = [(network, seed) for seed in seeds for network in NETWORKS]
    missing = [one for one in missing if _lacks(results_file(folder, *one), one[0])]
    started = time.monotonic()
    for done, (network, seed) in enumerate(missing):
        left = f'; {(time.monotonic() - started) / done * (len(missing) - done) / 60:.0f} minutes left' if done else ''
        print(f'[{done + 1}/{len(missing)}] {network.name}, seed {seed}{left}', flush=True)
        _run(network, seed, workdir, results_file(folder, network, seed))


def results_file(folder: pathlib.Path, network: Network, seed: int) -> pathlib.Path:
    """Where the metrics of a run are kept."""
    return folder / f'{network.name}_{seed}.json'


def _lacks(file: pathlib.Path, network: Network) -> bool:
    """Whether a run is still to do, or has been done when the tables had fewer rows of it."""
    if not file.is_file():
        return True
    document = read_document(file, network)
    return 'died' not in document and any(
        row.evaluation not in document['evaluations'] for row in ROWS if row.network == network
    )


def _run(network: Network, seed: int, workdir: pathlib.Path, file: pathlib.Path) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    log = workdir / f'{network.name}_{seed}.log'
    command = [sys.executable, '-m', 'benchmarks.tables.run', f'--network={network.name}', f'--seed={seed}']
    with log.open('w') as output:
        ended = subprocess.run(
            [*command, f'--workdir={workdir}', f'--output={file}'],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode < 0 or ended.returncode == RESUMABLE:
        sys.exit(
            f'{network.name}, seed {seed}: ended by a signal ({ended.returncode}); the same command goes on from here'
        )
    if ended.returncode:
        reason = (log.read_text().strip().splitlines() or [''])[-1]
        if file.is_file():
            sys.exit(f'{file}: what it lacks cannot be added: {reason}')
        write_whole(file, json.dumps({'died': f'status {ended.returncode}: {reason}'}) + '\n')

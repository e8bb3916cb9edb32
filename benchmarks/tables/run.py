"""One network of the tables: trained, evaluated in every way that a row asks for, its metrics in one file.

    python -m benchmarks.tables.run --network=shapes_sognet --seed=0 --workdir=runs/tables --output=FILE.json

A process of its own for each network: many compiled programs in one process reach Linux' limit of memory maps. Of a
network that is there, only those evaluations are done that the file lacks.
"""

import argparse
import functools
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from benchmarks.tables.rows import NETWORKS, ROWS, Network, network_config, occlusion_config
from sognet_jax.checkpoints import latest_step
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.evaluation.summary import Metrics
from sognet_jax.files import write_whole
from sognet_jax.json_files import read_json
from sognet_jax.programs.evaluate import Outputs, evaluate
from sognet_jax.programs.mine_label_prior import mine
from sognet_jax.programs.train import RESUMABLE
from sognet_jax.training.interruption import Interrupted
from sognet_jax.training.loop import train

say = functools.partial(print, flush=True)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.tables.run', description=__doc__)
    networks = {network.name: network for network in NETWORKS}
    parser.add_argument('--network', choices=networks, required=True, help='which one')
    parser.add_argument('--seed', type=int, required=True, help='of weights and batches')
    parser.add_argument('--workdir', type=pathlib.Path, required=True, help='folder of the trained networks')
    parser.add_argument('--output', type=pathlib.Path, required=True, help='file for the metrics')
    options = parser.parse_args()
    choose_eigen()
    try:
        run(networks[options.network], options.seed, options.workdir.resolve(), options.output)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        sys.exit(RESUMABLE)


def run(network: Network, seed: int, workdir: pathlib.Path, output: pathlib.Path) -> None:
    """Trains the network unless that has been done, evaluates it, and writes recipe, minutes and metrics."""
    started = time.monotonic()
    prior = workdir / f'label_prior_{network.world}.json'
    config, folder = network_config(network, seed), workdir / f'{network.name}_{seed}'
    if not prior.is_file():
        mine(config, prior)
    trained = _train(config, folder)
    if network.gets_occlusion_head:
        config, folder = occlusion_config(network, seed, str(folder)), workdir / f'{network.name}_{seed}_occlusion'
        trained |= _train(config, folder)
    known = {} if trained or not output.is_file() else read_document(output, network)
    results = dict(known.get('evaluations', {}))
    for row in ROWS:
        if row.network == network and row.evaluation not in results:
            results[row.evaluation] = _evaluate(config, row.inference, folder, prior)
    minutes = round(known.get('minutes', 0.0) + (time.monotonic() - started) / 60, 1)
    document = {'recipe': recipe(network), 'minutes': minutes, 'evaluations': results}
    write_whole(output, json.dumps(document, indent=1) + '\n')


def read_document(file: pathlib.Path, network: Network) -> dict[str, Any]:
    """What `run` wrote; `{'died': reason}` of a run that died.

    Raises:
        ValueError: it is not whole, or of another recipe.
    """
    document = read_json(file, dict[str, Any])
    if 'died' in document:
        return document
    if not {'recipe', 'minutes', 'evaluations'} <= document.keys():
        raise ValueError(f'{file}: is not the whole result of a run; remove it')
    now = recipe(network)
    other = [name for name, value in document['recipe'].items() if now.get(name) != value]  # new fields may come
    if other:
        raise ValueError(f'{file}: made with other values of {", ".join(other)}; remove it, or name another folder')
    return document


def recipe(network: Network) -> dict[str, Any]:
    """The fields of the configs that a network's metrics come from, but the seed, by their names."""
    fields = {}
    for stage, config in (('', network_config(network, 0)), ('occlusion.', occlusion_config(network, 0, ''))):
        fields |= {f'{stage}{name}': value for name, value in _flat(config.to_dict(), '')}
    return json.loads(json.dumps(fields))


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def _train(config: ml_collections.ConfigDict, folder: pathlib.Path) -> bool:
    """Trains unless that has been done; whether it had not."""
    missing = latest_step(folder) != config.train.steps
    if missing:
        train(config, folder, say=say)
    return missing


def _evaluate(config: ml_collections.ConfigDict, inference: dict, folder: pathlib.Path, prior: pathlib.Path) -> Metrics:
    """The metrics that are not of single categories."""
    config = config.copy_and_resolve_references()
    config.train.only = ''
    config.inference.update(inference)
    config.inference.label_prior = str(prior)
    compares = config.inference.method == 'relations'
    outputs = Outputs(folder / 'eval', num_pictures=0, overlap_pixels=compares, say=say)
    metrics = evaluate(config, folder, outputs)
    kept = {name: value for name, value in metrics.items() if '/' not in name or name.startswith('overlap_pixels')}
    return {name: value for name, value in kept.items() if value is not None and math.isfinite(value)}


if __name__ == '__main__':
    sys.exit(main())

"""Milliseconds per pair of panoptic maps: our panoptic quality against other programs, those that are installed.

    pip install hotcoco vernier
    pip install panopticapi-lite --no-deps
    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --source=/path/to/coco --images=5000 --json=evaluation.json

Maps have 480 x 640 pixels. They are annotations of the source (of drawn scenes, without one), cropped and mirrored; the
predictions are the same maps with moved outlines, where some segments are left out, merged, or have another category.
There are 100 different pairs; the JSON files list them again and again, under new image ids. PNGs are written by
Pillow, as those of COCO and of most programs are.

From files, every program (ours, hotcoco, and panopticapi, the official one) has a fresh Python that may use one core,
and then all; it has as many processes or threads as cores. Without decoding, panopticapi and ours are given decoded
colours in place of PNGs, in one process on one core; everything else is as in the first comparison, so that reading
JSON and finding ids are part of the time. From ids to numbers, ours and vernier, which reads no PNGs, have maps of ids.
Programs take turns, and times are those of the fastest pass, by the clock and of the processors. Where other programs
were at work meanwhile, `busy` stands in place of ratios.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from unittest import mock

import cv2
import numpy as np
from absl import app, flags

from benchmarks import panoptic_peers as peers
from benchmarks.machine import OtherWork, describe, in_process, ratio
from benchmarks.panoptic_pairs import SIZE, write_pairs
from benchmarks.panoptic_peers import GROUPS, SUMS, Results
from sognet_jax.evaluation.panoptic_files import scoring as panoptic_files
from sognet_jax.evaluation.panoptic_files.entries import PanopticFiles, read_pairs
from sognet_jax.evaluation.panoptic_files.scoring import evaluate_files, read_colors
from sognet_jax.evaluation.panoptic_files.summary import panoptic_file_metrics
from sognet_jax.evaluation.panoptic_quality import PanopticCounts, match_segments
from sognet_jax.id_maps import color_ids

SOURCE = flags.DEFINE_multi_string('source', [], 'Folder in the layout of COCO; may be given several times.')
IMAGES = flags.DEFINE_integer('images', 1000, 'So many pairs are evaluated.')
PASSES = flags.DEFINE_integer('passes', 3, 'The fastest of so many counts.')
JSON = flags.DEFINE_string('json', None, 'File with a list of results, to which these are appended.')

DISTINCT = 100
PACKAGES = {'hotcoco': 'hotcoco', 'panopticapi': 'panopticapi-lite', 'vernier': 'vernier'}
QUALITIES = ('PQ', 'SQ', 'RQ')


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    with tempfile.TemporaryDirectory() as scratch:
        # In processes of their own, so that what they hold in memory does not count as the evaluators'.
        about = in_process(write_pairs, scratch, SOURCE.value, IMAGES.value, min(DISTINCT, IMAGES.value))
        result = _header() | about | {'from_files': [], 'without_decoding': None}
        for cores in sorted({1, os.cpu_count() or 1}):
            result['from_files'].append(from_files(scratch, cores))
        if _installed('panopticapi'):
            result['without_decoding'] = in_process(without_decoding, scratch, PASSES.value, one_core=True)
        result['from_ids'] = in_process(from_ids, scratch, PASSES.value, one_core=True)
    _print(result)
    if JSON.value:
        file = pathlib.Path(JSON.value)
        earlier = json.loads(file.read_text()) if file.is_file() else []
        file.write_text(f'{json.dumps([*earlier, result], indent=1)}\n')


def from_files(folder: str, cores: int) -> Results:
    """All evaluators as programs of their own that may use so many cores.

    Raises:
        AssertionError: their numbers differ by more than the order of their sums explains.
    """
    names = ['ours', *filter(_installed, ('hotcoco', 'panopticapi'))]
    runs: dict[str, list[Results]] = {name: [] for name in names}
    others = OtherWork()
    for _ in range(PASSES.value):
        for name in names:
            runs[name].append(_program(name, folder, cores))
    for name in names[1:]:
        np.testing.assert_allclose(runs[name][0]['numbers'], runs['ours'][0]['numbers'], rtol=1e-13, err_msg=name)
    peak = {'parent': runs['ours'][0]['own_peak'], 'largest_worker': runs['ours'][0]['child_peak']}
    return {
        'cores': cores,
        **_times(runs, IMAGES.value, others.cores()),
        'our_peak_mebibytes': peak | {'at_most': peak['parent'] + cores * peak['largest_worker'] * (cores > 1)},
        'PQ': runs['ours'][0]['numbers'][0],
    }


def run(name: str, folder: str, cores: int) -> Results:
    """An evaluator from files: what it takes, its numbers, and memory."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    cv2.setNumThreads(cores)
    evaluators: dict[str, Callable[[PanopticFiles], Results]] = {
        'ours': lambda files: panoptic_file_metrics(evaluate_files(files, workers=cores)),
        'hotcoco': peers.hotcoco,
        'panopticapi': peers.panopticapi,
    }
    before, start = time.process_time(), time.perf_counter()
    metrics = evaluators[name](_files(folder))
    seconds = time.perf_counter() - start
    own, largest_child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        'seconds': seconds,
        'processor_before': before,
        'numbers': _numbers(metrics),
        'own_peak': own / 1024,
        'child_peak': largest_child / 1024,
    }


def without_decoding(folder: str, passes: int) -> Results:
    """Panopticapi and ours in this process, from decoded colours.

    Raises:
        ValueError: their numbers are not identical.
    """
    import panopticapi.evaluation as official

    cv2.setNumThreads(1)
    files = _files(folder)
    pairs = read_pairs(files).pairs
    colors = {png: read_colors(png) for pair in pairs for png in (pair.truth_png, pair.predicted_png)}
    by_name = {str(png): picture for png, picture in colors.items()}
    runs = {
        'ours': lambda: panoptic_file_metrics(evaluate_files(files)),
        'panopticapi': lambda: peers.panopticapi_in_one_process(files),
    }
    with (
        mock.patch.object(panoptic_files, 'read_colors', colors.__getitem__),
        mock.patch.object(official.Image, 'open', by_name.__getitem__),
    ):
        times, metrics = _in_turns(runs, passes, len(pairs))
    numbers = {name: _numbers(found, sums=True) for name, found in metrics.items()}
    if numbers['ours'] != numbers['panopticapi']:
        raise ValueError(f'these should be the same numbers: {numbers}')
    return times


def from_ids(folder: str, passes: int) -> Results:
    """Vernier and ours in this process, from maps of ids, over the different pairs."""
    files = _files(folder)
    categories, pairs, _ = read_pairs(files)
    pairs = pairs[:DISTINCT]
    maps = {png: color_ids(read_colors(png)) for pair in pairs for png in (pair.truth_png, pair.predicted_png)}

    def ours() -> Results:
        counts = PanopticCounts.zeros(len(categories))
        for pair in pairs:
            truth, prediction = maps[pair.truth_png], maps[pair.predicted_png]
            matching = match_segments(truth, pair.truth_segments, prediction, pair.predicted_segments)
            counts += matching.counts(len(categories))
        return {'All': counts.summary()}

    runs: dict[str, Callable[[], Results]] = {'ours': ours}
    if _installed('vernier'):
        inputs = peers.vernier_inputs(files, len(pairs))
        runs['vernier'] = lambda: peers.vernier(inputs)
    times, metrics = _in_turns(runs, passes, len(pairs))
    qualities = [[found['All'][name] for name in QUALITIES] for found in metrics.values()]
    np.testing.assert_allclose(qualities[-1], qualities[0], rtol=1e-13)
    return times


def _in_turns(runs: Mapping[str, Callable[[], Results]], passes: int, pairs: int) -> tuple[Results, dict[str, Results]]:
    """The times of calls in this process, and what each returned."""
    measured: dict[str, list[Results]] = {name: [] for name in runs}
    metrics: dict[str, Results] = {}
    others = OtherWork()
    for _ in range(passes):
        for name, evaluate in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            metrics[name] = evaluate()
            seconds = time.perf_counter() - clock
            measured[name].append({'seconds': seconds, 'processor_seconds': time.process_time() - processor})
    return _times(measured, pairs, others.cores()), metrics


def _times(runs: Mapping[str, list[Results]], images: int, others_cores: float) -> Results:
    """By the clock and by the processors: the best milliseconds a pair, and what ours are of those of others."""
    times: Results = {'others_cores': others_cores}
    for measure, field in (('clock', 'seconds'), ('processor', 'processor_seconds')):
        best = {name: 1000 * min(run[field] for run in passes) / images for name, passes in runs.items()}
        ratios = {name: ratio(best['ours'], value, others_cores) for name, value in best.items() if name != 'ours'}
        times[measure] = {'milliseconds_per_pair': best, 'ours_to': ratios}
    return times


def _numbers(metrics: Results, sums: bool = False) -> list[float]:
    """What all evaluators from files say, in one order."""
    of_a_class = (*QUALITIES, *(SUMS if sums else ()))
    numbers = [metrics[group][name] for group in GROUPS for name in (*QUALITIES, 'N')]
    return numbers + [float(row[name]) for _, row in sorted(metrics['per_class'].items()) for name in of_a_class]


def _files(folder: str) -> PanopticFiles:
    root = pathlib.Path(folder)
    return PanopticFiles(root / 'gt.json', root / 'gt', root / 'pred.json', root / 'pred')


def _program(name: str, folder: str, cores: int) -> Results:
    """`run` from a Python that has done nothing else, and its processor time, that of its start left out."""
    code = f'import json, sys, {__spec__.name} as module; print(json.dumps(module.run(*sys.argv[1:3], {cores})))'
    root = pathlib.Path(__file__).resolve().parents[1]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = subprocess.run([sys.executable, '-c', code, name, folder], cwd=root, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(program.stdout)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result | {'processor_seconds': seconds - result['processor_before']}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _header() -> Results:
    versions = {name: importlib.metadata.version(package) for name, package in PACKAGES.items() if _installed(name)}
    return describe() | {
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'kornia_rs': importlib.metadata.version('kornia_rs'),
        'pillow': importlib.metadata.version('pillow'),
        'peers': versions,
        'image_size': list(SIZE),
    }


def _print(result: Results) -> None:
    print({name: value for name, value in result.items() if not isinstance(value, dict | list)}, result['peers'])
    titled = [(f'from files, {times["cores"]} core(s)', times) for times in result['from_files']]
    titled += [('without decoding', result['without_decoding']), ('from ids to numbers', result['from_ids'])]
    print(f'{"ms per pair (and ours in relation to it)":<41}{"ours":>8}')
    for title, times in titled:
        for measure in ('clock', 'processor') if times else ():
            best, ratios = times[measure]['milliseconds_per_pair'], times[measure]['ours_to']
            others = ''.join(f'   {name} {best[name]:.2f} ({ratios[name]})' for name in ratios)
            print(f'{f"{title}, {measure}":<41}{best["ours"]:8.2f}{others}')
    peak = result['from_files'][-1]['our_peak_mebibytes']
    print(f'peak memory, MiB: parent {peak["parent"]:.0f}, largest worker {peak["largest_worker"]:.0f}')
    print('all numbers are the same, but for the order of sums')


if __name__ == '__main__':
    app.run(main)

"""Milliseconds per pair of panoptic maps: our panoptic quality against panopticapi, which is the official one.

    pip install panopticapi-lite --no-deps
    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --source=/path/to/coco --images=5000 --json=evaluation.json

Maps have 480 x 640 pixels. They are annotations of the source (of drawn scenes, without one), cropped and mirrored; the
predictions are the same maps with moved outlines, where some segments are left out, merged, or have another category.
There are 100 different pairs; the JSON files list them again and again, under new image ids. PNGs are written by
Pillow, as those of COCO and of most programs are.

From files, both evaluators have a fresh Python with as many processes as there are cores. Without decoding, both are
given decoded colours (Pillow's R, G, B; OpenCV's B, G, R) in place of PNGs, in one process on one core; everything
else is as in the first comparison, so that reading JSON and finding ids are part of the time. Times are those of the
fastest of two passes. Seconds of a clock and of the processors are both given, because other programs on the computer
change the former.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any
from unittest import mock

import cv2
import numpy as np
from absl import app, flags

from benchmarks.machine import describe, in_process
from benchmarks.panoptic_pairs import SIZE, write_pairs
from sognet_jax.evaluation.panoptic_files import scoring as panoptic_files
from sognet_jax.evaluation.panoptic_files.entries import PanopticFiles, PanopticPair, read_pairs
from sognet_jax.evaluation.panoptic_files.scoring import evaluate_files, read_colors
from sognet_jax.evaluation.panoptic_files.summary import panoptic_file_metrics
from sognet_jax.evaluation.panoptic_quality import match_segments
from sognet_jax.id_maps import color_ids

SOURCE = flags.DEFINE_multi_string('source', [], 'Folder in the layout of COCO; may be given several times.')
IMAGES = flags.DEFINE_integer('images', 1000, 'So many pairs are evaluated.')
JSON = flags.DEFINE_string('json', None, 'File with a list of results, to which these are appended.')

DISTINCT, PASSES = 100, 2
GROUPS = {'All': None, 'Things': True, 'Stuff': False}
QUALITIES, SUMS = ('PQ', 'SQ', 'RQ'), ('iou', 'tp', 'fp', 'fn')
INSTALL = 'panopticapi is not installed: pip install panopticapi-lite --no-deps'
Results = dict[str, Any]


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    if not importlib.util.find_spec('panopticapi'):
        sys.exit(INSTALL)
    with tempfile.TemporaryDirectory() as scratch:
        # In processes of their own, so that what they hold in memory does not count as the evaluators'.
        about = in_process(write_pairs, scratch, SOURCE.value, IMAGES.value, min(DISTINCT, IMAGES.value))
        result = _header() | about | {'from_files': from_files(scratch)}
        result['without_decoding'] = in_process(without_decoding, scratch, one_core=True)
    _print(result)
    if JSON.value:
        file = pathlib.Path(JSON.value)
        earlier = json.loads(file.read_text()) if file.is_file() else []
        file.write_text(f'{json.dumps([*earlier, result], indent=1)}\n')


def from_files(folder: str) -> Results:
    """Both evaluators as programs of their own, with all cores.

    Raises:
        AssertionError: their numbers differ by more than the order of their sums explains.
    """
    runs: dict[str, list[Results]] = {'ours': [], 'panopticapi': []}
    for _ in range(PASSES):
        runs['ours'].append(_program('run_ours', folder))
        runs['panopticapi'].append(_program('run_official', folder))
    ours, official = (passes[0] for passes in runs.values())
    # The last digits of panopticapi's sums depend on its number of processes.
    np.testing.assert_allclose(ours['numbers'], official['numbers'], rtol=1e-13)
    return {
        'processes': os.cpu_count(),
        'clock': _times(runs, 'seconds', ours['images']),
        'processor': _times(runs, 'processor_seconds', ours['images']),
        'our_peak_mebibytes': ours['peak_mebibytes'],
        'PQ': ours['numbers'][0],
    }


def run_ours(folder: str) -> Results:
    """Our evaluator from files; what `evaluate_files` takes, and memory."""
    workers = os.cpu_count() or 1
    start = time.perf_counter()
    evaluation = evaluate_files(_files(folder), workers=workers)
    seconds = time.perf_counter() - start
    own, largest_child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peak = {'parent': own / 1024, 'largest_worker': largest_child / 1024}
    peak['at_most'] = peak['parent'] + workers * peak['largest_worker']
    return {
        'seconds': seconds,
        'numbers': _numbers(panoptic_file_metrics(evaluation)),
        'images': evaluation.num_images,
        'peak_mebibytes': peak,
    }


def run_official(folder: str) -> Results:
    """The same with panopticapi, which has as many processes as there are cores."""
    from panopticapi.evaluation import pq_compute

    files = _files(folder)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        found = pq_compute(
            str(files.truth_json), str(files.predicted_json), str(files.truth_folder), str(files.predicted_folder)
        )
    return {'seconds': time.perf_counter() - start, 'numbers': _numbers(_in_our_words(found))}


def without_decoding(folder: str) -> Results:
    """Both evaluators in this process, from decoded colours.

    Raises:
        ValueError: their numbers are not identical.
    """
    import panopticapi.evaluation as official

    cv2.setNumThreads(1)
    files = _files(folder)
    categories, pairs, _ = read_pairs(files)
    pngs = {png for pair in pairs for png in (pair.truth_png, pair.predicted_png)}
    bgr = {png: read_colors(png) for png in pngs}
    rgb = {str(png): cv2.cvtColor(colors, cv2.COLOR_BGR2RGB) for png, colors in bgr.items()}
    runs: dict[str, list[Results]] = {'ours': [], 'panopticapi': []}
    evaluators = {
        'ours': lambda: panoptic_file_metrics(evaluate_files(files)),
        'panopticapi': lambda: _official_in_one_process(files),
    }
    with (
        mock.patch.object(panoptic_files, 'read_colors', bgr.__getitem__),
        mock.patch.object(official.Image, 'open', rgb.__getitem__),
    ):
        for _ in range(PASSES):
            for name, evaluate in evaluators.items():
                clock, processor = time.perf_counter(), time.process_time()
                metrics = evaluate()
                run = {'seconds': time.perf_counter() - clock, 'processor_seconds': time.process_time() - processor}
                runs[name].append(run | {'numbers': _numbers(metrics, sums=True)})
    if runs['ours'][0]['numbers'] != runs['panopticapi'][0]['numbers']:
        raise ValueError(f'these should be the same numbers: {[run[0]["numbers"] for run in runs.values()]}')
    return {
        'clock': _times(runs, 'seconds', len(pairs)),
        'processor': _times(runs, 'processor_seconds', len(pairs)),
        'processor_milliseconds_from_ids_to_counts': _counting(pairs, len(categories), bgr),
    }


def _official_in_one_process(files: PanopticFiles) -> Results:
    """What panopticapi's `pq_compute` does, without its processes."""
    import panopticapi.evaluation as official

    truth, prediction = (json.loads(path.read_text()) for path in (files.truth_json, files.predicted_json))
    categories = {category['id']: category for category in truth['categories']}
    predicted = {entry['image_id']: entry for entry in prediction['annotations']}
    pairs = [(entry, predicted[entry['image_id']]) for entry in truth['annotations']]
    with contextlib.redirect_stdout(io.StringIO()):
        found = official.pq_compute_single_core(
            0, pairs, str(files.truth_folder), str(files.predicted_folder), categories
        )
    averages = {name: found.pq_average(categories, is_thing) for name, is_thing in GROUPS.items()}
    by_class = averages['All'][1]
    for category, values in by_class.items():
        values |= {name: getattr(found[category], name) for name in SUMS}
    return _in_our_words({name: average for name, (average, _) in averages.items()} | {'per_class': by_class})


def _in_our_words(found: Results) -> Results:
    """Results of panopticapi with our names."""
    names = {name.lower(): name for name in (*QUALITIES, 'N')}
    rows = {name: found[name] for name in GROUPS} | found['per_class']
    renamed = {
        str(key): {names.get(name, name): value for name, value in values.items()} for key, values in rows.items()
    }
    return {name: renamed.pop(name) for name in GROUPS} | {'per_class': renamed}


def _numbers(metrics: Results, sums: bool = False) -> list[float]:
    """What both evaluators say, in one order."""
    of_a_class = (*QUALITIES, *(SUMS if sums else ()))
    numbers = [metrics[group][name] for group in GROUPS for name in (*QUALITIES, 'N')]
    return numbers + [float(row[name]) for _, row in sorted(metrics['per_class'].items()) for name in of_a_class]


def _counting(pairs: list[PanopticPair], num_categories: int, bgr: dict[pathlib.Path, np.ndarray]) -> float:
    """Milliseconds per pair from ids to counts, over the different pairs."""
    distinct = list({pair.truth_png: pair for pair in pairs}.values())
    ids = {png: color_ids(colors) for png, colors in bgr.items()}
    seconds = []
    for _ in range(1 + PASSES):
        start = time.process_time()
        for pair in distinct:
            maps = ids[pair.truth_png], ids[pair.predicted_png]
            matching = match_segments(maps[0], pair.truth_segments, maps[1], pair.predicted_segments)
            matching.counts(num_categories)
        seconds.append(time.process_time() - start)
    return 1000 * min(seconds) / len(distinct)


def _times(runs: dict[str, list[Results]], field: str, images: int) -> Results:
    best = {name: 1000 * min(run[field] for run in passes) / images for name, passes in runs.items()}
    return {'milliseconds_per_pair': best, 'ratio': best['panopticapi'] / best['ours']}


def _files(folder: str) -> PanopticFiles:
    root = pathlib.Path(folder)
    return PanopticFiles(root / 'gt.json', root / 'gt', root / 'pred.json', root / 'pred')


def _program(function: str, folder: str) -> Results:
    """The result of a function of this module, from a Python that has done nothing else, and its processor time."""
    code = f'import json, sys, {__spec__.name} as module; print(json.dumps(module.{function}(sys.argv[1])))'
    root = pathlib.Path(__file__).resolve().parents[1]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, '-c', code, folder], cwd=root, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(run.stdout) | {'processor_seconds': seconds}


def _header() -> Results:
    return describe() | {
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'pillow': importlib.metadata.version('pillow'),
        'image_size': list(SIZE),
    }


def _print(result: Results) -> None:
    print({name: value for name, value in result.items() if not isinstance(value, dict)})
    print(f'{"ms per pair":<36}{"ours":>10}{"panopticapi":>14}{"ratio":>8}')
    for title, part in (
        (f'from files, {os.cpu_count()} processes', result['from_files']),
        ('without decoding', result['without_decoding']),
    ):
        for measure in ('clock', 'processor'):
            times = part[measure]['milliseconds_per_pair']
            line = f'{f"{title}, {measure}":<36}{times["ours"]:10.2f}{times["panopticapi"]:14.2f}'
            print(f'{line}{part[measure]["ratio"]:8.1f}')
    counting = result['without_decoding']['processor_milliseconds_from_ids_to_counts']
    print(f'{"from ids to counts, processor":<36}{counting:10.2f}')
    peak = result['from_files']['our_peak_mebibytes']
    print(f'peak memory, MiB: parent {peak["parent"]:.0f}, largest worker {peak["largest_worker"]:.0f}')
    print('all numbers are the same')


if __name__ == '__main__':
    app.run(main)

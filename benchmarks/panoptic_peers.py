"""Other programs that compute panoptic quality, each with the names of `panoptic_file_metrics` for its numbers.

panopticapi adds up the IoU of all matches one after the other (in several processes: of some images first), as we do;
hotcoco and vernier those of each image first, vernier in the order of the images' ids. That decides about the last
digits, and about nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
from typing import Any
from unittest import mock

import numpy as np

from sognet_jax.evaluation.panoptic_files.entries import PanopticFiles
from sognet_jax.evaluation.panoptic_files.scoring import read_ids

Results = dict[str, Any]
GROUPS = {'All': None, 'Things': True, 'Stuff': False}
NAMES = {'pq': 'PQ', 'sq': 'SQ', 'rq': 'RQ', 'n': 'N'}
SUMS = ('iou', 'tp', 'fp', 'fn')


def panopticapi(files: PanopticFiles) -> Results:
    """The official evaluation, with as many processes as this one may use cores."""
    from panopticapi.evaluation import pq_compute

    cores = len(os.sched_getaffinity(0))
    with mock.patch.object(multiprocessing, 'cpu_count', lambda: cores), contextlib.redirect_stdout(io.StringIO()):
        return _in_our_words(pq_compute(*_arguments(files)))


def panopticapi_in_one_process(files: PanopticFiles) -> Results:
    """What panopticapi's `pq_compute` does, without its processes, and the sums by category."""
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


def hotcoco(files: PanopticFiles) -> Results:
    """With as many threads as this process may use cores."""
    from hotcoco.panoptic import pq_compute

    with contextlib.redirect_stdout(io.StringIO()):
        return _in_our_words(pq_compute(*_arguments(files)))


def vernier_inputs(files: PanopticFiles, images: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What vernier takes for the first images: id maps in memory, because it reads no PNGs, and JSON."""
    truth, prediction = (json.loads(path.read_text()) for path in (files.truth_json, files.predicted_json))
    predicted = {entry['image_id']: entry for entry in prediction['annotations']}
    truths = truth['annotations'][:images]
    inputs = []
    for folder, entries in (
        (files.truth_folder, truths),
        (files.predicted_folder, [predicted[entry['image_id']] for entry in truths]),
    ):
        maps = {entry['image_id']: read_ids(folder / entry['file_name']).astype(np.uint32) for entry in entries}
        segments = {entry['image_id']: entry['segments_info'] for entry in entries}
        inputs.append((maps, json.dumps(segments).encode()))
    return (*inputs[0], json.dumps(truth['categories']).encode()), inputs[1]


def vernier(inputs: tuple[tuple[Any, ...], tuple[Any, ...]]) -> Results:
    """With one thread, from `vernier_inputs`; categories that do not occur are left out."""
    from vernier.panoptic import Dataset, Evaluator, Predictions

    truth, predictions = Dataset.from_arrays(*inputs[0]), Predictions.from_arrays(*inputs[1])
    found = Evaluator(parity_mode='strict').evaluate(truth, predictions, num_threads=1)
    metrics: Results = {}
    for group, suffix in (('All', ''), ('Things', '_things'), ('Stuff', '_stuff')):
        metrics[group] = {ours: getattr(found, theirs + suffix) for theirs, ours in NAMES.items()}
    by_class = {
        str(category): {ours: getattr(row, theirs) for theirs, ours in NAMES.items() if theirs != 'n'}
        | {'iou': row.iou_sum, 'tp': row.n_tp, 'fp': row.n_fp, 'fn': row.n_fn}
        for category, row in found.per_class().items()
    }
    return metrics | {'per_class': by_class}


def _arguments(files: PanopticFiles) -> tuple[str, ...]:
    paths = (files.truth_json, files.predicted_json, files.truth_folder, files.predicted_folder)
    return tuple(map(str, paths))


def _in_our_words(found: Results) -> Results:
    """What has the names of panopticapi, with ours; hotcoco's -1 for a category that does not occur becomes 0."""
    rows = {name: found[name] for name in GROUPS} | found['per_class']
    renamed = {
        str(key): {NAMES.get(name, name): max(value, 0) for name, value in values.items()}
        for key, values in rows.items()
    }
    return {name: renamed.pop(name) for name in GROUPS} | {'per_class': renamed}

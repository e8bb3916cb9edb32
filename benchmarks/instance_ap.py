"""Seconds for the average precision of masks and boxes: pycocotools, which evaluation uses, and two that replace it.

    pip install hotcoco vernier
    python -m benchmarks.instance_ap
    python -m benchmarks.instance_ap --images=1000 --json=instance_ap.json

Images have 480 x 640 pixels, 7 ellipses of 80 classes and 27 detections in the mean: the same ellipses moved and
resized, some with another class, and others that are not there. There are 40 different images, added again and again
under new ids. All have the same tally, one core, and fresh memory of their own; they take turns, and times are those of
the fastest pass, by the clock and by the processor. That their numbers are identical is checked.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import pathlib
import time
from typing import Any
from unittest import mock

import numpy as np
from absl import app, flags
from pycocotools import mask as coco_mask

from benchmarks.machine import OtherWork, describe, in_process, ratio
from sognet_jax.data.records.schema import InstanceAnnotations
from sognet_jax.evaluation import instance_ap
from sognet_jax.evaluation.instance_ap import Detections, InstanceTally

IMAGES = flags.DEFINE_integer('images', 5000, 'So many images are evaluated.')
PASSES = flags.DEFINE_integer('passes', 1, 'The fastest of so many counts.')
JSON = flags.DEFINE_string('json', None, 'File for the results.')

SIZE, DISTINCT, THINGS = (480, 640), 40, 80
MOST_TRUE, MOST_DETECTED = 14, 72
MOVED, RENAMED, INVENTED = 0.15, 0.15, 0.2
"""Standard deviation of centres and sizes, in parts of an ellipse; shares of the detections."""

KINDS = ('mask', 'box')


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    names = ['pycocotools', *(name for name in ('hotcoco', 'vernier') if importlib.util.find_spec(name))]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    others = OtherWork()
    for _ in range(PASSES.value):
        for name in names:
            runs[name].append(in_process(evaluate, name, IMAGES.value, one_core=True))
    versions = {name: importlib.metadata.version(name) for name in names}
    cores = others.cores()
    result = describe() | {'images': IMAGES.value, 'versions': versions, 'others_cores': cores, 'seconds': {}}
    for kind in KINDS:
        reference = min(run[kind]['clock'] for run in runs[names[0]])
        for name in names:
            np.testing.assert_array_equal(runs[name][0][kind]['numbers'], runs[names[0]][0][kind]['numbers'], name)
            best = {field: min(run[kind][field] for run in runs[name]) for field in ('clock', 'processor')}
            result['seconds'][f'{kind}, {name}'] = best
            print(
                f'{f"{kind}, {name}":<20}{best["clock"]:8.2f} s by the clock, {best["processor"]:.2f} s of the core   '
                f'{names[0]} / {name}: {ratio(reference, best["clock"], cores)}'
            )
    print('all numbers are identical')
    if JSON.value:
        pathlib.Path(JSON.value).write_text(f'{json.dumps(result, indent=1)}\n')


def evaluate(name: str, images: int) -> dict[str, Any]:
    """By kind: seconds, and the numbers."""
    tally = _tally(images)
    module = instance_ap if name == 'pycocotools' else importlib.import_module(name)
    found = {}
    with (
        mock.patch.object(instance_ap, 'COCOeval', module.COCOeval),
        mock.patch.object(instance_ap, 'COCO', getattr(module, 'COCO', instance_ap.COCO)),
    ):
        for kind in KINDS:
            clock, processor = time.perf_counter(), time.process_time()
            result = tally.average_precision(kind)
            seconds = {'clock': time.perf_counter() - clock, 'processor': time.process_time() - processor}
            found[kind] = seconds | {'numbers': [*result.summary.values(), *result.by_category.tolist()]}
    return found


def _tally(images: int) -> InstanceTally:
    """All images; the same for everyone."""
    rng = np.random.default_rng(0)
    distinct = [_image(rng) for _ in range(min(images, DISTINCT))]
    tally = InstanceTally(THINGS)
    for number in range(images):
        tally.add(number, *distinct[number % DISTINCT])
    return tally


def _image(rng: np.random.Generator) -> tuple[InstanceAnnotations, Detections]:
    true, category = _ellipses(rng, rng.integers(1, MOST_TRUE + 1)), rng.integers(0, THINGS, MOST_TRUE)
    count = rng.integers(0, MOST_DETECTED + 1)
    chosen = rng.integers(0, len(true), count)
    found, seen = true[chosen].copy(), category[chosen]
    found[:, :2] += rng.normal(0, MOVED, (count, 2)) * found[:, 2:]
    found[:, 2:] *= np.exp(rng.normal(0, MOVED, (count, 2)))
    invented = rng.random(count) < INVENTED
    found[invented] = _ellipses(rng, invented.sum())
    seen = np.where(rng.random(count) < RENAMED, rng.integers(0, THINGS, count), seen)
    rles, boxes, kept = _masks(true)
    number = len(rles)
    truth = InstanceAnnotations(
        id=np.arange(number),
        category=category[: len(true)][kept].astype(np.int32),
        crowd=rng.random(number) < 0.02,
        segment=np.zeros(number, np.int64),
        box_segment=np.zeros(number, np.int64),
        box=boxes,
        rles=rles,
    )
    rles, boxes, kept = _masks(found)
    return truth, Detections(seen[kept], rng.random(count)[kept].astype(np.float32), boxes, rles)


def _ellipses(rng: np.random.Generator, count: int) -> np.ndarray:
    """`[n, 4]` y, x, and half the height and width."""
    sizes = np.array(SIZE)
    return np.concatenate([rng.uniform(0, sizes, (count, 2)), sizes / 8 * rng.lognormal(0, 0.8, (count, 2))], axis=1)


def _masks(ellipses: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Those that have pixels: n masks, `[n, 4]` half-open boxes; and `[m]` bool, which they are."""
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    masks = [((y - top) / height) ** 2 + ((x - left) / width) ** 2 <= 1 for top, left, height, width in ellipses]
    kept = np.array([mask.any() for mask in masks], bool)
    rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks if mask.any()]
    boxes = coco_mask.toBbox(rles).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return rles, boxes, kept


if __name__ == '__main__':
    app.run(main)

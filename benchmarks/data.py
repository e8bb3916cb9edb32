"""Images per second of the input pipeline, on one core, against a loader that is written the usual way.

    python -m benchmarks.data
    python -m benchmarks.data --source=/path/to/coco --split=val2017 --json=data.json

Without a source, scenes of 480 x 640 pixels are drawn. Both loaders make training examples of 800 x 1333 pixels, padded
to 800 x 1344, in one process that is bound to one core (on Linux). Ours reads the prepared data set, for which overlaps
and matching have been worked out once; the usual one (`usual_loader`) has COCO's own files. Half of the images are
mirrored. Both go over all images in turn; times are those of the fastest of five passes, after one that does not count.
`resize` has the padding of ours, which comes with it. Then a batch is stacked and put on the first device, and examples
come through grain with all cores.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import cv2
import grain
import jax
import numpy as np
from absl import app, flags, logging

from benchmarks.drawn_coco import draw_folder
from benchmarks.machine import OtherWork, describe, in_process, ratio
from benchmarks.usual_loader import Stopwatch, UsualLoader
from sognet_jax.categories import COCO, SHAPES, CategorySet
from sognet_jax.data.examples import transforms
from sognet_jax.data.examples.pipeline import Augmentation, Stream, train_dataset
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.coco import builder as coco
from sognet_jax.data.sources.preparation import prepare

SOURCE = flags.DEFINE_string('source', None, 'Folder in the layout of COCO; scenes are drawn without one.')
SPLIT = flags.DEFINE_string('split', 'val2017', 'Its split.')
IMAGES = flags.DEFINE_integer('images', 64, 'So many images, or all that there are.')
JSON = flags.DEFINE_string('json', None, 'File with a list of results, to which these are appended.')

IMAGE_SIZE, SHORT_SIDE, LONG_SIDE, MAX_INSTANCES = (800, 1344), 800, 1333, 100
PASSES = 5
BATCH_SIZE = 4
WORKERS = (0, 2)
OUR_PARTS = {
    'read and decode': ((RecordSource, '__getitem__'), (Record, 'image'), (Record, 'segment_indices')),
    'resize': ((transforms, 'image_arrays'),),
    'masks': ((transforms, 'instance_arrays'),),
    'targets': ((transforms, 'label_maps'), (transforms, 'relation_matrices')),
}
PARTS = ('read and decode', 'resize', 'masks', 'targets', 'padding', 'rest', 'whole', 'stack a batch', 'put on device')


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    logging.set_verbosity(logging.ERROR)  # tfds narrates every step
    with tempfile.TemporaryDirectory() as scratch:
        source, split, categories = pathlib.Path(SOURCE.value or f'{scratch}/drawn'), SPLIT.value, COCO
        if not SOURCE.value:
            categories = SHAPES
            draw_folder(source, split, IMAGES.value)
        prepared = prepare(coco.preparation(source, split, categories), f'{scratch}/prepared').folder
        result = _header(SOURCE.value is None) | in_process(
            compare, source, split, prepared, categories, IMAGES.value, one_core=True
        )
        records, settings = RecordSource(prepared, split), _settings(categories)
        result['grain_images_per_second'] = {
            f'{workers} workers': grain_rate(records, settings, workers) for workers in WORKERS
        }
    _print(result)
    if JSON.value:
        file = pathlib.Path(JSON.value)
        earlier = json.loads(file.read_text()) if file.is_file() else []
        file.write_text(f'{json.dumps([*earlier, result], indent=1)}\n')


def compare(
    source: pathlib.Path, split: str, prepared: pathlib.Path, categories: CategorySet, count: int
) -> dict[str, Any]:
    """Milliseconds per image of both loaders, by part, on this process's core."""
    cv2.setNumThreads(1)
    records, settings = RecordSource(prepared, split), _settings(categories)
    usual = UsualLoader(source, split, categories, image_size=IMAGE_SIZE, short_side=SHORT_SIDE, long_side=LONG_SIDE)
    if len(usual) != len(records):
        raise ValueError(f'{source}: instances_{split}.json has {len(usual)} images, the whole split {len(records)}')
    # Of one orientation and spread over the split.
    landscape = np.flatnonzero(records.sizes[:, 0] <= records.sizes[:, 1])
    indices = landscape[np.linspace(0, len(landscape) - 1, min(count, len(landscape))).astype(int)].tolist()
    seconds: dict[str, list[dict[str, float]]] = {'sognet_jax': [], 'usual': []}
    others = OtherWork()
    for _ in range(1 + PASSES):
        seconds['sognet_jax'].append(_our_pass(records, settings, indices))
        seconds['usual'].append(_usual_pass(usual, indices))
    cores = others.cores()
    best = {}
    for name, passes in seconds.items():
        fastest = min(passes[1:], key=lambda parts: parts['whole'])
        best[name] = {part: 1000 * seconds for part, seconds in fastest.items()}
        best[name]['rest'] = 2 * best[name]['whole'] - sum(best[name].values())
    ours = [_our_example(records, settings, index, False) for index in indices[:BATCH_SIZE]]
    theirs = [usual.load(index, flip=False, watch=Stopwatch()) for index in indices[:BATCH_SIZE]]
    rates = {name: 1000 / parts['whole'] for name, parts in best.items()}
    return {
        'images': len(indices),
        'instances_per_image': sum(len(records[index].instances.id) for index in indices) / len(indices),
        'milliseconds_per_image': {
            'sognet_jax': best['sognet_jax'] | _transfer(ours),
            'usual': best['usual'] | _transfer(theirs),
        },
        'bytes_per_image': {'sognet_jax': _bytes(ours), 'usual': _bytes(theirs)},
        'images_per_second_per_core': rates,
        'ratio': ratio(rates['sognet_jax'], rates['usual'], cores),
        'others_cores': cores,
    }


def grain_rate(records: RecordSource, settings: transforms.ExampleSettings, workers: int) -> float:
    """Images per second of training batches from grain, on all cores, once it is running."""
    dataset = train_dataset(records, settings, batch_size=BATCH_SIZE, seed=0, augmentation=Augmentation(flip=True))
    iterator = Stream(dataset, workers=workers)
    for _ in range(8):  # workers start, and what was made ahead is used up
        next(iterator)
    batches = 24
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    seconds = time.perf_counter() - start
    iterator.close()
    return batches * BATCH_SIZE / seconds


def _our_pass(records: RecordSource, settings: transforms.ExampleSettings, indices: list[int]) -> dict[str, float]:
    """Seconds per image, by part."""
    watch = Stopwatch()
    with _watched(watch):
        for number, index in enumerate(indices):
            with watch.part('whole'):
                _our_example(records, settings, index, flip=number % 2 == 0)
    return {part: seconds / len(indices) for part, seconds in watch.seconds.items()}


@contextlib.contextmanager
def _watched(watch: Stopwatch) -> Iterator[None]:
    """The functions of `OUR_PARTS` are timed until the block ends."""

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with watch.part(part):
                return function(*arguments, **options)

        return call

    with contextlib.ExitStack() as patches:
        for part, functions in OUR_PARTS.items():
            for owner, name in functions:
                patches.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name), part)))
        yield


def _our_example(
    records: RecordSource, settings: transforms.ExampleSettings, index: int, flip: bool
) -> transforms.Example:
    return transforms.make_example(records[index], settings, flip=flip, either_orientation=True)


def _usual_pass(usual: UsualLoader, indices: list[int]) -> dict[str, float]:
    watch = Stopwatch()
    for number, index in enumerate(indices):
        with watch.part('whole'):
            usual.load(index, flip=number % 2 == 0, watch=watch)
    return {part: seconds / len(indices) for part, seconds in watch.seconds.items()}


def _transfer(examples: list[transforms.Example]) -> dict[str, float]:
    """Milliseconds per image for stacking a batch (but masks whose number differs) and for putting it on the device."""

    def stack() -> dict[str, Any]:
        columns = {name: [example[name] for example in examples] for name in examples[0]}
        same = {name: len({array.shape for array in arrays}) == 1 for name, arrays in columns.items()}
        return {name: np.stack(arrays) if same[name] else arrays for name, arrays in columns.items()}

    batch = stack()
    return {
        'stack a batch': _best(stack) / len(examples),
        'put on device': _best(lambda: jax.block_until_ready(jax.device_put(batch))) / len(examples),
    }


def _best(function: Callable[[], Any]) -> float:
    """Milliseconds of the fastest of several calls after a first one."""
    seconds = []
    for _ in range(1 + PASSES):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds[1:])


def _bytes(examples: list[transforms.Example]) -> int:
    return sum(array.nbytes for example in examples for array in example.values()) // len(examples)


def _settings(categories: CategorySet) -> transforms.ExampleSettings:
    return transforms.ExampleSettings(IMAGE_SIZE, SHORT_SIDE, LONG_SIDE, MAX_INSTANCES, categories.num_stuff)


def _header(drawn: bool) -> dict[str, Any]:
    return describe() | {
        'device': jax.devices()[0].device_kind,
        'jax': jax.__version__,
        'grain': grain.__version__,
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'data': 'drawn scenes' if drawn else f'{pathlib.Path(SOURCE.value).name} {SPLIT.value}',
        'image_size': list(IMAGE_SIZE),
        'max_instances': MAX_INSTANCES,
        'batch_size': BATCH_SIZE,
    }


def _print(result: dict[str, Any]) -> None:
    columns = result['milliseconds_per_image']
    print({name: value for name, value in result.items() if not isinstance(value, dict)})
    print(f'{"ms per image":<24}' + ''.join(f'{name:>14}' for name in columns))
    for part in PARTS:
        cells = (f'{parts[part]:14.2f}' if part in parts else f'{"":14}' for parts in columns.values())
        print(f'{part:<24}' + ''.join(cells))
    print(f'{"MiB per image":<24}' + ''.join(f'{size / 2**20:14.1f}' for size in result['bytes_per_image'].values()))
    rates = result['images_per_second_per_core']
    print(f'{"images/s per core":<24}{rates["sognet_jax"]:14.1f}{rates["usual"]:14.1f}   {result["ratio"]}')
    for workers, rate in result['grain_images_per_second'].items():
        print(f'{f"grain, {workers}, images/s":<24}{rate:14.1f}')


if __name__ == '__main__':
    app.run(main)

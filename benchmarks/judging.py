"""How long it takes to judge the annotation files of a source of COCO's size, and which library reads them best.

    python -m benchmarks.judging --source=/path/to/coco_mini --json=judging.json

The files repeat those of a small source (scenes are drawn without one) for `--images` images. First
`programs.prepare coco --annotations_only` judges them, with images and PNGs not opened. Then three libraries read the
file of instances, one after the other, each in a process of its own: the standard library (which checks nothing),
msgspec (as `json_files` uses it: entries into typed structures, masks too), and pydantic, where it is installed (the
same types). Times are the best of `--passes`; peaks are the resident memory of a process.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import msgspec
from absl import app, flags

from benchmarks.drawn_coco import draw_folder
from benchmarks.machine import describe, in_process
from sognet_jax.categories import SHAPES
from sognet_jax.category_files import categories_to_json
from sognet_jax.json_files import Notes, decode_entries, read_json
from sognet_jax.json_schemas import AnnotationFile, InstanceEntry, Segmentation

SOURCE = flags.DEFINE_string('source', None, 'Folder in the layout of COCO; scenes are drawn without one.')
SPLIT = flags.DEFINE_string('split', 'val2017', 'Its split.')
IMAGES = flags.DEFINE_integer('images', 118_287, 'So many images.')
ANNOTATIONS = flags.DEFINE_integer('annotations', 860_001, 'At most so many instances.')
PASSES = flags.DEFINE_integer('passes', 2, 'The best of so many counts.')
JSON = flags.DEFINE_string('json', None, 'File for the results.')


def main(arguments: list[str]) -> None:
    """Repeats the source, and measures."""
    del arguments
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        source = pathlib.Path(SOURCE.value) if SOURCE.value else folder / 'drawn'
        if not SOURCE.value:
            draw_folder(source, SPLIT.value, 32)
        repeated = folder / 'repeated'
        sizes = {kind: repeat(source, repeated, kind) for kind in ('instances', 'panoptic')}
        print(', '.join(f'{kind}: {size / 1e6:.0f} MB' for kind, size in sizes.items()), flush=True)
        results: dict[str, Any] = describe() | {'images': IMAGES.value, 'bytes': sizes}
        results['judged'] = judge(repeated, folder)
        print(
            f'judged in {results["judged"]["seconds"]:.0f} s, {results["judged"]["peak_bytes"] / 1e9:.2f} GB',
            flush=True,
        )
        path = repeated / 'annotations' / f'instances_{SPLIT.value}.json'
        for reader in (with_json, with_msgspec, with_pydantic):
            if reader is with_pydantic and importlib.util.find_spec('pydantic') is None:
                continue
            runs = [in_process(reader, path) for _ in range(PASSES.value)]
            results[reader.__name__] = {
                'seconds': min(run[0] for run in runs),
                'peak_bytes': max(run[1] for run in runs),
            }
            print(f'{reader.__name__}: {results[reader.__name__]}', flush=True)
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps(results, indent=2) + '\n')


def repeat(source: pathlib.Path, target: pathlib.Path, kind: str) -> int:
    """Writes a file with the entries of a small one over and over, under new ids; returns its size."""
    small = json.loads((source / 'annotations' / f'{kind}_{SPLIT.value}.json').read_text())
    of_image: dict[int, list[dict[str, Any]]] = {image['id']: [] for image in small['images']}
    for entry in small['annotations']:
        of_image[entry['image_id']].append(entry)
    images, annotations = [], []
    for number, image in zip(range(1, IMAGES.value + 1), itertools.cycle(small['images']), strict=False):
        images.append(image | {'id': number, 'file_name': f'{number:012d}.jpg'})
        for entry in of_image[image['id']]:
            if kind == 'panoptic':
                annotations.append(entry | {'image_id': number, 'file_name': f'{number:012d}.png'})
            elif len(annotations) < ANNOTATIONS.value:
                annotations.append(entry | {'image_id': number, 'id': len(annotations) + 1})
    path = target / 'annotations' / f'{kind}_{SPLIT.value}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': small['categories']}))
    return path.stat().st_size


def judge(source: pathlib.Path, folder: pathlib.Path) -> dict[str, float]:
    """Seconds, and the peak of the largest process with what its helpers have beside it."""
    command = [
        sys.executable,
        '-m',
        'sognet_jax.programs.prepare',
        'coco',
        '--source',
        str(source),
        '--annotations_only',
    ]
    if not SOURCE.value:
        categories = folder / 'categories.json'
        categories.write_text(json.dumps(categories_to_json(SHAPES)))
        command[3:4] = ['coco_format', '--categories', str(categories)]
    start = time.perf_counter()
    with subprocess.Popen(command) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.2)
    if process.returncode:
        raise ValueError(f'{" ".join(command)} ended with {process.returncode}')
    return {'seconds': time.perf_counter() - start, 'peak_bytes': peak}


def resident(process: int) -> int:
    """Bytes that a process and its children have in memory together; pages that they share count for each."""
    total = 0
    for status in pathlib.Path('/proc').glob('[0-9]*/status'):
        try:
            fields = dict(line.split(':\t', 1) for line in status.read_text().splitlines() if ':\t' in line)
        except OSError:  # has ended
            continue
        if str(process) in (fields['Pid'], fields['PPid']) and 'VmRSS' in fields:
            total += int(fields['VmRSS'].split()[0]) * 1024
    return total


def with_json(path: pathlib.Path) -> tuple[float, int]:
    """The standard library, which checks nothing."""
    start = time.perf_counter()
    content = json.loads(path.read_text())
    return timed(start, len(content['annotations']))


def with_msgspec(path: pathlib.Path) -> tuple[float, int]:
    """As the reader of a source does it, masks too."""
    start = time.perf_counter()
    content = read_json(path, AnnotationFile)
    decoder = msgspec.json.Decoder(Segmentation)
    entries = [
        entry for _, entry in decode_entries(path, 'annotations', content.annotations, InstanceEntry, [], Notes())
    ]
    for entry in entries:
        entry.segmentation = decoder.decode(entry.segmentation)
    return timed(start, len(entries))


def with_pydantic(path: pathlib.Path) -> tuple[float, int]:
    """The same types in pydantic."""
    import pydantic

    class RunLengths(pydantic.BaseModel):
        size: tuple[int, int]
        counts: str | list[int]

    class Entry(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        id: int
        image_id: int
        category_id: int
        bbox: list[float]
        iscrowd: int
        segmentation: list[list[float]] | RunLengths

    class File(pydantic.BaseModel):
        annotations: list[Entry]

    start = time.perf_counter()
    content = File.model_validate_json(path.read_bytes())
    return timed(start, len(content.annotations))


def timed(start: float, count: int) -> tuple[float, int]:
    """Seconds since, and the peak of this process; entries are there until now."""
    assert count
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == '__main__':
    app.run(main)

"""What our kernels and whole programs become on NVIDIA GPUs, from the compiler alone: no GPU is needed, nothing runs.

    make test-gpu-compile                                   # the whole table; GPU_FLAGS="--quick" is a minute
    python -m benchmarks.gpu_static --json=benchmarks/results/NAME.json   # in an environment that can compile for GPUs

Every kernel is compiled at the network's shapes, forward and backward, for each GPU. It fails if one does not
compile, does not become a kernel where it should (or does on a T4, for which Triton does not compile), or keeps more
than `--stack` bytes of a thread in memory. `--programs` compiles whole inference and training steps, minutes each.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.gpu_compiler import GPUS, Compiled, Gpu, clean, compile_for  # before jax

# isort: split
import jax
from absl import app, flags

from benchmarks.machine import describe
from benchmarks.programs import BUILDERS, config_of, with_gradients
from sognet_jax.kernels.choice import FIRST_CAPABILITY
from sognet_jax.kernels.deform_conv import deform_conv2d
from sognet_jax.kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.kernels.roi_align import roi_align

ON = flags.DEFINE_list('gpus', ['T4', 'A100', 'L4', 'H100', 'B200', 'RTX PRO 6000'], 'What is compiled for.')
QUICK = flags.DEFINE_bool('quick', False, 'L4 and H100, and of the shapes of a kind the largest.')
STACK = flags.DEFINE_integer(
    'stack', 160, 'Bytes of a thread, of its 1,020 in registers, that a kernel may keep in memory.'
)
PROGRAMS = flags.DEFINE_list(
    'programs', [], 'Configs whose whole inference and training step are compiled, for example coco_r50.'
)
PROGRAM_GPUS = flags.DEFINE_list('program_gpus', ['H100', 'A100', 'L4'], 'What those are compiled for.')
JSON = flags.DEFINE_string('json', None, 'File for the results.')

IMAGE = (800, 1344)
STRIDES = (4, 8, 16, 32)
Shape = jax.ShapeDtypeStruct

MOST_LAUNCHES, MOST_OF_PROGRAMS = 1_000, 4_000
"""Of an operator and of a whole program: a loop that goes on for longer than a kernel takes is found by them."""


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator at one shape: a function, the shapes of its arguments, and the kernels that it should become."""

    name: str
    function: Callable[..., Any]
    shapes: tuple
    kernels: tuple[str, ...]


def cases(quick: bool) -> Iterator[Case]:
    """The operators at the network's shapes for an image of 800 x 1344."""
    layers = [(200, 336, 256, 128, 1)] if quick else LAYERS
    for dtype in ('bfloat16', 'float32'):
        for layer in layers:
            yield _deform_conv(*layer, dtype)
        for boxes, side in ((512, 7), (1000, 7), (100, 14))[: 1 if quick else 3]:
            yield _roi_align(boxes, side, dtype)
    for count in (100,) if quick else (16, 32, 64, 100):
        for resolve in ('sequential', 'joint'):
            yield _panoptic_fusion(count, resolve)


LAYERS = (
    # The semantic head, on each level of the pyramid.
    *((IMAGE[0] // stride, IMAGE[1] // stride, channels, 128, 1) for stride in STRIDES for channels in (256, 128)),
    # ResNet-101 with deformable convolutions.
    (200, 336, 128, 128, 2), (100, 168, 128, 128, 1), (100, 168, 256, 256, 2), (50, 84, 256, 256, 1),
    (50, 84, 512, 512, 2), (25, 42, 512, 512, 1),
    # As the table of measured times has it.
    (200, 336, 256, 256, 1),
)  # fmt: skip
"""Height, width, channels, features and stride."""


def _deform_conv(height: int, width: int, channels: int, features: int, stride: int, dtype: str) -> Case:
    out = (1, -(-height // stride), -(-width // stride), 18)
    shapes = (
        Shape((1, height, width, channels), dtype),
        Shape(out, 'float32'),
        Shape((3, 3, channels, features), dtype),
    )
    function = with_gradients(lambda x, offset, weight: deform_conv2d(x, offset, weight, stride=stride))
    name = f'deform_conv {height}x{width} {channels}->{features}{f" /{stride}" if stride > 1 else ""} {dtype}'
    kernels = ('deform_conv2d_forward', 'deform_conv2d_input_gradients', 'deform_conv2d_weight_gradient')
    return Case(name, function, shapes, kernels)


def _roi_align(boxes: int, side: int, dtype: str) -> Case:
    levels = tuple(Shape((1, IMAGE[0] // stride, IMAGE[1] // stride, 256), dtype) for stride in STRIDES)

    def function(boxes: jax.Array, level: jax.Array, *features: jax.Array) -> Any:
        def pool(*features: jax.Array) -> jax.Array:
            return roi_align(features, boxes, level, strides=STRIDES, output_size=side)

        return with_gradients(pool)(*features)

    shapes = (Shape((1, boxes, 4), 'float32'), Shape((1, boxes), 'int32'), *levels)
    name = f'roi_align {boxes} boxes {side}x{side}x256 {dtype}'
    return Case(name, function, shapes, ('roi_align_forward', 'roi_align_backward'))


def _panoptic_fusion(count: int, resolve: str) -> Case:
    names = ('mask_logits', 'boxes', 'classes', 'valid', 'relations', 'semantic', 'partners')
    shapes = (
        Shape((count, 28, 28), 'float32'), Shape((count, 4), 'float32'), Shape((count,), 'int32'),
        Shape((count,), 'bool'), Shape((count, count), 'float32'), Shape((200, 336, 133), 'float32'),
        Shape((count,), 'int32'),
    )  # fmt: skip

    def function(*scene: jax.Array) -> jax.Array:
        return panoptic_fusion(**dict(zip(names, scene, strict=True)), size=IMAGE, num_stuff=53, resolve=resolve)

    return Case(f'panoptic_fusion N={count} {resolve}', function, shapes, ('panoptic_fusion',))


def check(gpu: Gpu, case: Case, compiled: Compiled, stack: int) -> str:
    """What is wrong with what a case has become; empty where all is well."""
    found = {kernel.name.partition('__')[0] for kernel in compiled.kernels}
    wanted = set(case.kernels) if gpu.capability >= FIRST_CAPABILITY else set()
    if found != wanted:
        return f'has the kernels {sorted(found)}, not {sorted(wanted)}'
    if compiled.launches > MOST_LAUNCHES:
        return f'is {compiled.launches} launches, at most {MOST_LAUNCHES} are of no note'
    worst = max((kernel.stack for kernel in compiled.kernels), default=0)
    return f'keeps {worst} bytes of a thread in memory, at most {stack} are of no note' if worst > stack else ''


def kernel_rows(gpus: Sequence[str], quick: bool, stack: int) -> Iterator[dict[str, Any]]:
    """What becomes of every case on every GPU."""
    for name in gpus:
        for case in cases(quick):
            start = time.perf_counter()
            row: dict[str, Any] = {'gpu': name, 'case': case.name}
            try:
                compiled = compile_for(GPUS[name], case.function, case.shapes)
                row |= {**dataclasses.asdict(compiled), 'fault': check(GPUS[name], case, compiled, stack)}
            except jax.errors.JaxRuntimeError as error:
                row['fault'] = f'does not compile: {str(error).splitlines()[0][:200]}'
            yield {**row, 'seconds': round(time.perf_counter() - start, 1)}


def program_rows(configs: Sequence[str], gpus: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What becomes of whole programs, for one image in bfloat16."""
    for config, gpu, program in ((c, g, p) for c in configs for g in gpus for p in BUILDERS):
        start = time.perf_counter()
        row: dict[str, Any] = {'gpu': gpu, 'case': f'{program} of {config}'}
        try:
            compiled = compile_for(GPUS[gpu], *BUILDERS[program](config_of(config, 'bfloat16')))
            row |= dataclasses.asdict(compiled)
            row['fault'] = '' if compiled.kernels else 'none of our kernels is in it'
            if compiled.launches > MOST_OF_PROGRAMS:
                row['fault'] = f'is {compiled.launches} launches, at most {MOST_OF_PROGRAMS} are of no note'
        except jax.errors.JaxRuntimeError as error:
            row['fault'] = f'does not compile: {str(error).splitlines()[0][:200]}'
        yield {**row, 'seconds': round(time.perf_counter() - start, 1)}


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    text = f'{row["gpu"]:<13}{row["case"]:<44}'
    if 'launches' in row:
        text += f'{row["launches"]:6} launches {row["iterations"]:5} iterations {row["temporaries"] >> 20:5} MiB  '
        if len(row['kernels']) < 9:
            parts = (f'{k["registers"]}r {k["shared_memory"] >> 10}K {k["stack"]}s' for k in row['kernels'])
            text += ' | '.join(parts)
        else:
            text += f'{len(row["kernels"])} kernels of ours, {row["convolutions"]} convolutions'
    return f'{text}{"  FAULT: " if row["fault"] else ""}{row["fault"]}'


def write(result: dict[str, Any]) -> None:
    """Writes the results so far, a row a line."""
    head = json.dumps({name: value for name, value in result.items() if name != 'rows'}, indent=1)
    rows = ',\n  '.join(map(json.dumps, result['rows']))
    pathlib.Path(JSON.value).write_text(f'{head[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n')


def main(arguments: list[str]) -> None:
    """Compiles as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    note = 'Figures of the compiler, ahead of time; nothing ran on a GPU.'
    result: dict[str, Any] = {**describe(), 'jax': jax.__version__, 'note': note, 'rows': []}
    gpus = ['L4', 'H100'] if QUICK.value else ON.value
    print('r: registers, K: KiB of shared memory, s: bytes of a thread kept in memory, for each of our kernels')
    for rows in (kernel_rows(gpus, QUICK.value, STACK.value), program_rows(PROGRAMS.value, PROGRAM_GPUS.value)):
        for row in rows:
            print(line(row), flush=True)
            result['rows'].append(row)
            if JSON.value:
                write(result)
    clean()
    faults = sum(bool(row['fault']) for row in result['rows'])
    print(f'{len(result["rows"])} compiled with jax {jax.__version__}, {faults} with a fault')
    sys.exit(min(faults, 1))


if __name__ == '__main__':
    app.run(main)

"""Whether every kernel says on this device what its reference says, and the same when it is run again.

    python -m benchmarks.kernel_check                                # on a GPU
    python -m benchmarks.kernel_check --image=64,96 --channels=32    # elsewhere: the interpreter, which is slow

Outputs and gradients of each kernel, and of the reference in the same type, are compared with the reference in float32
with full precision: `error` and `of the reference` are the largest differences over the largest value. A kernel fails
where its error exceeds both what its type explains and thrice that of the reference. `again` is the largest difference
between two runs: additions to memory come in any order, so that gradients may differ in their last bits.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.machine import describe
from benchmarks.programs import with_gradients
from benchmarks.stepwise_fusion import draw_scene
from sognet_jax.kernels.choice import INTERPRETED, TRITON, XLA
from sognet_jax.kernels.deform_conv import deform_conv2d
from sognet_jax.kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.kernels.roi_align import pyramid_level, roi_align

IMAGE = flags.DEFINE_list('image', [800, 1344], 'Height and width that the shapes belong to: multiples of 32.')
CHANNELS = flags.DEFINE_integer('channels', 256, 'Of the feature maps.')
INSTANCES = flags.DEFINE_list('instances', [16, 100], 'Of the scenes.')
JSON = flags.DEFINE_string('json', None, 'File for the results.')

EXPLAINED = {'float32': 2e-3, 'bfloat16': 2e-2}
"""Errors that are of no note: products of float32 keep ten bits (TF32) unless more is asked for, bfloat16 eight."""

DIFFERING = 1e-3
"""Share of pixels whose winner may be another one, where two logits are equal to the last bits."""

NAMES = ('output', 'gradient 1', 'gradient 2', 'gradient 3', 'gradient 4')
Function = Callable[..., Any]


def main(arguments: list[str]) -> None:
    """Compares as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    kernel = TRITON if jax.default_backend() == 'gpu' else INTERPRETED
    image = tuple(map(int, IMAGE.value))
    rows = []
    for row in (*_differentiable(kernel, image, CHANNELS.value), *_fusion(kernel, image)):
        rows.append(row)
        print(
            f'{row["case"]:<44}{row["value"]:<12}error {row["error"]:.1e}, of the reference {row["of_reference"]:.1e}, '
            f'again {row["again"]:.1e}{"" if row["is_right"] else "   WRONG"}',
            flush=True,
        )
    wrong = sum(not row['is_right'] for row in rows)
    print(f'{kernel}: {len(rows) - wrong} of {len(rows)} as they should be')
    if JSON.value:
        header = {**describe(), 'jax': jax.__version__, 'device': jax.devices()[0].device_kind}
        pathlib.Path(JSON.value).write_text(json.dumps({**header, 'kernel': kernel, 'rows': rows}, indent=1))
    sys.exit(min(wrong, 1))


def _differentiable(kernel: str, image: tuple[int, int], channels: int) -> Iterator[dict[str, Any]]:
    for dtype in EXPLAINED:
        for name, make, inputs in (*_deform_convs(image, channels), _roi_aligns(image, channels)):
            yield from _compare(f'{name} {dtype}', make, inputs, dtype, kernel)


def _deform_convs(image: tuple[int, int], channels: int) -> Iterator[tuple[str, Function, list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    for stride in (4, 16):
        height, width = image[0] // stride, image[1] // stride
        inputs = [
            rng.normal(size=(1, height, width, channels)),
            rng.normal(0, 2, (1, height, width, 18)),
            rng.normal(0, 0.02, (3, 3, channels, channels // 2)),
            rng.uniform(size=(1, height, width, 9)),
        ]

        def make(implementation: str) -> Function:
            return lambda x, offset, weight, mask: deform_conv2d(
                x, offset, weight, mask=mask, implementation=implementation
            )

        yield f'deform_conv {height}x{width}x{channels}', make, inputs


def _roi_aligns(image: tuple[int, int], channels: int) -> tuple[str, Function, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    strides = (4, 8, 16, 32)
    levels = [rng.normal(size=(1, image[0] // s, image[1] // s, channels)) for s in strides]
    sides = np.exp(rng.uniform(np.log(16), np.log(min(image) * 7 / 8), (64, 2)))
    corner = rng.uniform(0, np.array(image[::-1]) - sides)
    boxes = jnp.asarray(np.concatenate([corner, corner + sides], axis=1)[None], jnp.float32)

    def make(implementation: str) -> Function:
        return lambda *features: roi_align(
            features, boxes, pyramid_level(boxes), strides=strides, output_size=7, implementation=implementation
        )

    return f'roi_align 64 boxes 7x7x{channels}', make, levels


def _compare(
    case: str, make: Callable[[str], Function], inputs: list[np.ndarray], dtype: str, kernel: str
) -> Iterator[dict[str, Any]]:
    # Rounded to the type first: what is compared is the computation. Offsets stay in float32.
    typed = [jnp.asarray(x, 'float32' if x.shape[-1] == 18 else dtype) for x in inputs]
    with jax.default_matmul_precision('highest'):
        truth = _run(make(XLA), [x.astype(jnp.float32) for x in typed])
    reference, found, again = (_run(make(name), typed) for name in (XLA, kernel, kernel))
    for name, *values in zip(NAMES, truth, reference, found, again, strict=False):
        true, theirs, ours, repeated = (np.asarray(x, np.float32) for x in values)
        scale = max(np.abs(true).max(), 1e-30)
        error, of_reference = (float(np.abs(x - true).max() / scale) for x in (ours, theirs))
        yield {
            'case': case,
            'value': name,
            'error': error,
            'of_reference': of_reference,
            'again': float(np.abs(ours - repeated).max() / scale),
            'is_right': bool(error <= max(EXPLAINED[dtype], 3 * of_reference)),
        }


def _run(function: Function, inputs: list[jax.Array]) -> list[jax.Array]:
    """Output and gradients."""
    output, gradients = jax.jit(with_gradients(function))(*inputs)
    return [output, *gradients]


def _fusion(kernel: str, image: tuple[int, int]) -> Iterator[dict[str, Any]]:
    for count in map(int, INSTANCES.value):
        scene = jax.tree.map(jnp.asarray, draw_scene(0, count, image, 53, 80))
        for resolve in ('sequential', 'joint'):
            options = {'size': image, 'num_stuff': 53, 'resolve': resolve}
            truth, found, again = (
                np.asarray(jax.jit(lambda scene, name=name, options=options: panoptic_fusion(
                    **scene, **options, implementation=name
                ))(scene))
                for name in (XLA, kernel, kernel)
            )  # fmt: skip
            yield {
                'case': f'panoptic_fusion N={count} {resolve}',
                'value': 'pixels',
                'error': float(np.mean(truth != found)),
                'of_reference': 0.0,
                'again': float(np.mean(found != again)),
                'is_right': bool(np.mean(truth != found) <= DIFFERING),
            }


if __name__ == '__main__':
    app.run(main)

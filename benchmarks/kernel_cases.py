"""The operators at the shapes that SOGNet with ResNet-50 gives them for an image of 800 x 1344 pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import torch_peers
from benchmarks.programs import with_gradients
from benchmarks.stepwise_fusion import draw_scene, fuse_stepwise
from benchmarks.timing import Run
from sognet_jax.kernels.deform_conv import deform_conv2d
from sognet_jax.kernels.mask_statistics import mask_statistics
from sognet_jax.kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.kernels.roi_align import pyramid_level, roi_align

IMAGE = (800, 1344)
STRIDES = (4, 8, 16, 32)
CHANNELS = 256
INSTANCES, NUM_STUFF, NUM_THINGS = 100, 53, 80
FORWARD, BOTH = 'forward', 'forward + backward'

Passes = Iterator[tuple[str, list[Run]]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One operator at one shape.

    Attributes:
        operator, shape, dtype: what is run, in words.
        passes: makes the inputs and yields a pass's name with the runs to compare.
    """

    operator: str
    shape: str
    dtype: str
    passes: Callable[[], Passes]

    @property
    def name(self) -> str:
        """Operator, shape and dtype."""
        return f'{self.operator}/{self.shape}/{self.dtype}'


def all_cases(image: tuple[int, int] = IMAGE) -> list[Case]:
    """What `benchmarks.kernels` measures, for an image of this height and width."""
    cases = []
    for dtype in ('float32', 'bfloat16'):
        cases += [_deform_conv(image[0] // stride, image[1] // stride, dtype) for stride in STRIDES]
        cases += [_roi_align(image, *boxes, dtype) for boxes in ((512, 7), (1000, 7), (100, 14))]
    cases += [_panoptic_fusion(image, resolve) for resolve in ('sequential', 'joint')]
    return [*cases, _mask_statistics(image)]


def _deform_conv(height: int, width: int, dtype: str) -> Case:
    def passes() -> Passes:
        rng = np.random.default_rng(0)
        inputs = (
            rng.normal(size=(1, height, width, CHANNELS)),
            rng.normal(0, 2, (1, height, width, 18)),
            rng.normal(0, 0.02, (3, 3, CHANNELS, CHANNELS)),
            rng.uniform(size=(1, height, width, 9)),
        )

        def ours(implementation: str) -> Callable[..., jax.Array]:
            return lambda x, offset, weight, mask: deform_conv2d(
                x, offset, weight, mask=mask, implementation=implementation
            )

        yield from _differentiated(ours, ('xla', 'triton'), inputs, dtype, torch_peers.deform_conv(inputs, dtype))

    return Case('deform_conv', f'{height}x{width}x{CHANNELS}', dtype, passes)


def _roi_align(image: tuple[int, int], num_boxes: int, output_size: int, dtype: str) -> Case:
    def passes() -> Passes:
        rng = np.random.default_rng(0)
        features = tuple(rng.normal(size=(1, image[0] // s, image[1] // s, CHANNELS)) for s in STRIDES)
        sides = np.exp(rng.uniform(np.log(16), np.log(min(image) * 7 / 8), (num_boxes, 2)))
        corner = rng.uniform(0, np.maximum(np.array(image[::-1]) - sides, 1))
        boxes = np.concatenate([corner, corner + sides], axis=1)[None].astype(np.float32)

        def ours(implementation: str) -> Callable[..., jax.Array]:
            return lambda *features: roi_align(
                features,
                boxes,
                pyramid_level(boxes),
                strides=STRIDES,
                output_size=output_size,
                implementation=implementation,
            )

        peers = torch_peers.roi_align(features, boxes[0], output_size, image, dtype)
        yield from _differentiated(ours, ('xla', 'windows', 'triton'), features, dtype, peers)

    return Case('roi_align', f'{num_boxes} boxes {output_size}x{output_size}x{CHANNELS}', dtype, passes)


def _panoptic_fusion(image: tuple[int, int], resolve: str) -> Case:
    def passes() -> Passes:
        scene = draw_scene(0, INSTANCES, image, NUM_STUFF, NUM_THINGS)

        def ours(implementation: str) -> Callable[..., jax.Array]:
            return lambda scene: panoptic_fusion(
                **scene, size=image, num_stuff=NUM_STUFF, resolve=resolve, implementation=implementation
            )

        names = _made_for_this_device(('xla', 'triton'))
        runs = [_jax_run(name, ours(name), jax.tree.map(jnp.asarray, scene)) for name in names]
        if jax.default_backend() == 'cpu':
            step_by_step = {'size': image, 'num_stuff': NUM_STUFF, 'resolve': resolve}
            runs.append(Run('step by step', lambda: fuse_stepwise(**scene, **step_by_step), lambda result: result))
        yield FORWARD, runs

    return Case('panoptic_fusion', f'N={INSTANCES} {image[0]}x{image[1]} {resolve}', 'float32', passes)


def _mask_statistics(image: tuple[int, int]) -> Case:
    def passes() -> Passes:
        scene = draw_scene(0, INSTANCES, image, NUM_STUFF, NUM_THINGS)
        inputs = [jnp.asarray(scene[name]) for name in ('mask_logits', 'boxes', 'classes', 'valid')]

        def ours(*inputs: jax.Array) -> Any:
            return mask_statistics(*inputs, jnp.array(image), image, num_classes=NUM_THINGS)

        yield FORWARD, [_jax_run('xla', ours, *inputs)]

    return Case('mask_statistics', f'N={INSTANCES} {image[0]}x{image[1]}', 'float32', passes)


def _made_for_this_device(implementations: Sequence[str]) -> list[str]:
    other = 'triton' if jax.default_backend() == 'cpu' else 'windows'
    return [name for name in implementations if name != other]


def _differentiated(
    ours: Callable[[str], Callable[..., jax.Array]],
    implementations: Sequence[str],
    inputs: Sequence[np.ndarray],
    dtype: str,
    peers: dict[str, list[Run]],
) -> Passes:
    """Forward, and forward with the gradients of all inputs; offsets stay in float32."""
    names = _made_for_this_device(implementations)
    inputs = [jnp.asarray(array, 'float32' if array.shape[-1] == 18 else dtype) for array in inputs]

    yield FORWARD, [_jax_run(name, ours(name), *inputs) for name in names] + peers[FORWARD]
    yield BOTH, [_jax_run(name, with_gradients(ours(name)), *inputs) for name in names] + peers[BOTH]


def _jax_run(implementation: str, function: Callable[..., Any], *inputs: Any) -> Run:
    compiled = jax.jit(function).lower(*inputs).compile()

    def device_bytes() -> int:
        memory = compiled.memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    on_cpu = jax.default_backend() == 'cpu'
    return Run(implementation, lambda: compiled(*inputs), jax.block_until_ready, None if on_cpu else device_bytes)

"""Where the time of a training step goes: seconds, operations and memory of its parts, forward and backward.

    python -m benchmarks.training_parts --config=configs/coco_r50.py
    python -m benchmarks.training_parts --config=configs/shapes.py --json=parts.json

Every part is a program of its own, with the gradients of all that it is computed from; `whole` is the step. Weights are
random, the images are noise with rectangles on them (`benchmarks.made_up_batch`), `config.batch_size` of them.
`benchmarks.inference` does the same for inference.
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
from absl import app, flags
from ml_collections import config_flags

from benchmarks.flops import count_flops
from benchmarks.machine import describe
from benchmarks.made_up_batch import random_batch
from benchmarks.programs import training_program, with_gradients
from benchmarks.timing import Run, measure
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.models.sognet import SOGNet, initialize
from sognet_jax.ops.extent import image_extent
from sognet_jax.training.objective import (
    GroundTruth,
    Objective,
    assign_targets,
    build_objective,
    ground_truth,
    segment_boxes,
)
from sognet_jax.training.pixel_losses import ShownInstances, panoptic_losses, semantic_losses
from sognet_jax.training.relation import Batch
from sognet_jax.training.step import create_state

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'The best of so many counts.', lower_bound=1)
JSON = flags.DEFINE_string('json', None, 'File for the results.')

Part = tuple[str, Callable[..., Any], tuple[Any, ...]]
"""A name, a function, and its inputs."""


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    choose_eigen()
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    config = CONFIG.value
    header = describe() | {'jax': jax.__version__, 'device': jax.devices()[0].device_kind}
    header |= {'image': list(config.data.image_size), 'images': config.batch_size, 'dtype': config.model.dtype}
    print(header)
    rows = []
    for name, function, inputs in _parts(config):
        rows.append(_measure(name, function, inputs))
        print('{part:<26}{seconds:8.3f} s{processor_seconds:8.3f} s of processors{gflop:9.1f} GFLOP'
              '{gflop_per_second:7.0f} GFLOP/s{temporary_mebibytes:7.0f} MiB'.format(**rows[-1]))  # fmt: skip
    if JSON.value:
        pathlib.Path(JSON.value).write_text(f'{json.dumps(header | {"parts": rows}, indent=1)}\n')


def _measure(name: str, function: Callable[..., Any], inputs: tuple[Any, ...]) -> dict[str, Any]:
    flops = count_flops(function, *inputs)
    compiled = jax.jit(function).lower(*inputs).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    run = Run(name, lambda: compiled(*inputs), jax.block_until_ready, device_bytes=lambda: temporary)
    (measured,) = measure([run], ROUNDS.value, 1)
    return {
        'part': name, 'seconds': measured.seconds, 'processor_seconds': measured.processor_seconds,
        'gflop': flops / 1e9, 'gflop_per_second': flops / measured.seconds / 1e9,
        'temporary_mebibytes': temporary / 2**20,
    }  # fmt: skip


def _parts(config: ml_collections.ConfigDict) -> Iterator[Part]:
    """The step, and its parts with gradients, each computed from the results of those before it."""
    batch = jax.tree.map(jnp.asarray, random_batch(config))
    network, optimizer, step = training_program(config)
    variables = initialize(network, config.seed)
    yield 'whole', step, (create_state(variables, optimizer), batch)
    size, objective = batch['image_size'], build_objective(config.objective)

    def bound(method: Callable[..., Any]) -> Callable[..., Any]:
        """`(parameters, *inputs) -> method(network, *inputs)`."""
        fixed = {name: values for name, values in variables.items() if name != 'params'}
        return lambda parameters, *inputs: nn.apply(method, network)(fixed | {'params': parameters}, *inputs)

    def part(name: str, method: Callable[..., Any], *inputs: Any) -> Part:
        return name, with_gradients(bound(method)), (variables['params'], *inputs)

    def result(method: Callable[..., Any], *inputs: Any) -> Any:
        return jax.jit(bound(method))(variables['params'], *inputs)

    def stages(network: SOGNet) -> Any:
        return network.extract_stages(batch['image'], size)

    def pyramid(network: SOGNet, maps: Any) -> Any:
        return network.fpn(maps, image_extent(size))

    def semantics(network: SOGNet, features: Any) -> jax.Array:
        return network.segment_semantics(features, size)

    yield part('backbone', stages)
    maps = result(stages)
    yield part('feature pyramid', pyramid, maps)
    features = result(pyramid, maps)
    yield part('region proposal network', SOGNet.score_anchors, features)
    anchors = result(SOGNet.score_anchors, features)
    keys = jax.random.split(jax.random.key(0), config.batch_size)
    assign = functools.partial(assign_targets, batch=batch, keys=keys, objective=objective)
    yield 'targets, proposals', assign, (features, anchors)
    assignment, truth = jax.jit(assign)(features, anchors), ground_truth(batch)

    def masks(network: SOGNet, features: Any) -> jax.Array:
        return segment_boxes(network, features, size, truth, assignment)[0]

    yield part('box head', lambda network, f: network.classify_boxes(f, assignment.sampled.boxes, size), features)
    yield part('mask head', masks, features)
    yield part('semantic head', semantics, features)
    yield part('relation head', lambda network: network.relate_annotated(batch).potential)
    semantic, logits = result(semantics, features), result(masks, features)[:, assignment.mask_targets.shape[1] :]
    relations = result(lambda network: network.relate_annotated(batch).matrix)
    yield from _pixel_losses(batch, truth, objective, network.num_stuff, (logits, semantic, relations))


def _pixel_losses(
    batch: Batch, truth: GroundTruth, objective: Objective, num_stuff: int, outputs: tuple[jax.Array, ...]
) -> Iterator[Part]:
    """The losses over pixels, from mask logits of the annotated boxes, semantic logits and O."""

    def panoptic(logits: jax.Array, semantic: jax.Array, relations: jax.Array) -> jax.Array:
        shown = ShownInstances(logits, truth.boxes, truth.classes, truth.valid, relations)
        num_pixels = jnp.prod(image_extent(batch['image_size']), axis=-1)
        return panoptic_losses(
            shown, semantic, batch['panoptic'], num_pixels, num_stuff=num_stuff, head=objective.panoptic_head,
            outside=objective.outside, void_channel=False,
        )  # fmt: skip

    yield 'semantic loss', with_gradients(lambda x: semantic_losses(x, batch['semantic'])), outputs[1:2]
    yield 'panoptic loss', with_gradients(panoptic), outputs


if __name__ == '__main__':
    flags.mark_flags_as_required(['config'])
    app.run(main)

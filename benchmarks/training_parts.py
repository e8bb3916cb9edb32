"""Where the time of a training step goes: seconds, operations and memory of its parts, forward and backward.

    python -m benchmarks.training_parts --config=configs/coco_r50.py
    python -m benchmarks.training_parts --config=configs/shapes.py --json=parts.json

Every part is a program of its own, with the gradients of all that it is computed from; `whole` is the step. Weights are
random, the images are noise with rectangles on them (`benchmarks.made_up_batch`), `config.batch_size` of them.
`benchmarks.inference` does the same for inference.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks.flops import count_flops
from benchmarks.machine import describe
from benchmarks.made_up_batch import random_batch
from benchmarks.programs import training_program
from benchmarks.timing import Run, measure
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.models.sognet import SOGNet, initialize
from sognet_jax.ops.extent import image_extent
from sognet_jax.training.objective import assign_targets, build_objective, ground_truth
from sognet_jax.training.pixel_losses import ShownInstances, panoptic_losses, semantic_losses
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
    objective = build_objective(config.objective)
    variables = initialize(network, config.seed)
    parameters = variables.pop('params')
    size = batch['image_size']

    def apply(method: Callable[..., Any], *inputs: Any) -> Any:
        return jax.jit(_with(network, variables, method))(parameters, *inputs)

    def part(name: str, method: Callable[..., Any], *inputs: Any) -> Part:
        return name, _with_gradients(_with(network, variables, method)), (parameters, *inputs)

    yield 'whole', step, (create_state(variables | {'params': parameters}, optimizer), batch)

    def stages(network: SOGNet) -> Any:
        return network.extract_stages(batch['image'], size)

    yield part('backbone', stages)

    def pyramid(network: SOGNet, maps: Any) -> Any:
        return network.fpn(maps, image_extent(size))

    maps = apply(stages)
    yield part('feature pyramid', pyramid, maps)
    features = apply(pyramid, maps)
    yield part('region proposal network', SOGNet.score_anchors, features)
    anchors = apply(SOGNet.score_anchors, features)
    keys = jax.random.split(jax.random.key(0), config.batch_size)

    def assign(features: Any, anchors: Any) -> Any:
        return assign_targets(features, anchors, batch, keys, objective)

    yield 'targets, proposals', assign, (features, anchors)
    assigned, truth = jax.jit(assign)(features, anchors), ground_truth(batch)
    sampled, masked = assigned.sampled, assigned.mask_targets.shape[1]
    yield part('box head', lambda network, f: network.classify_boxes(f, sampled.boxes, size), features)
    boxes = jnp.concatenate([sampled.boxes[:, :masked], truth.boxes], axis=1)
    labels = sampled.labels[:, :masked]
    classes = jnp.concatenate([jnp.maximum(labels - 1, 0), truth.classes], axis=1)
    wanted = jnp.concatenate([sampled.valid[:, :masked] & (labels > 0), truth.valid], axis=1)

    def masks(network: SOGNet, features: Any) -> jax.Array:
        return network.segment_boxes(features, boxes, classes, size, wanted)

    def semantics(network: SOGNet, features: Any) -> jax.Array:
        return network.segment_semantics(features, size)

    yield part('mask head', masks, features)
    yield part('semantic head', semantics, features)
    semantic = apply(semantics, features)
    yield 'semantic loss', _with_gradients(lambda x: semantic_losses(x, batch['semantic'])), (semantic,)
    yield part('relation head', lambda network: network.relate_annotated(batch).potential)

    def panoptic(logits: jax.Array, semantic: jax.Array, relations: jax.Array) -> jax.Array:
        shown = ShownInstances(logits, truth.boxes, truth.classes, truth.valid, relations)
        return panoptic_losses(
            shown, semantic, batch['panoptic'], jnp.prod(image_extent(size), axis=-1), num_stuff=network.num_stuff,
            head=objective.panoptic_head, outside=objective.outside, void_channel=False,
        )  # fmt: skip

    relations = apply(lambda network: network.relate_annotated(batch).matrix)
    yield 'panoptic loss', _with_gradients(panoptic), (apply(masks, features)[:, masked:], semantic, relations)


def _with(network: SOGNet, variables: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """`(parameters, *inputs) -> method(network, *inputs)`."""
    return lambda parameters, *inputs: nn.apply(method, network)(variables | {'params': parameters}, *inputs)


def _with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """The outputs, and the gradients of all inputs from gradients of 1."""

    def both(*inputs: Any) -> Any:
        outputs, pull_back = jax.vjp(function, *inputs)
        return outputs, pull_back(jax.tree.map(lambda x: np.ones(x.shape, x.dtype), outputs))

    return both


if __name__ == '__main__':
    flags.mark_flags_as_required(['config'])
    app.run(main)

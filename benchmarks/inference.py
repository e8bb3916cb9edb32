"""Seconds and memory of one image through the whole network, and of its parts.

    python -m benchmarks.inference --config=configs/coco_r50.py:published --checkpoint=DIR --image=FILE --instances=46

Without a checkpoint the weights are random, without an image so are its pixels: times hardly depend on either, but the
number of instances is then set by the score threshold that `--instances` asks for. Seconds are the best of three runs
after compilation. `temporary` is what XLA's compiled program needs beside its inputs and outputs. GFLOP are those of
products and convolutions, with loops as often as they run.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks.flops import count_flops
from benchmarks.machine import describe
from benchmarks.timing import Run, measure, resident_bytes
from sognet_jax.categories import CATEGORY_SETS
from sognet_jax.checkpoints import restore_variables
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import image_arrays, resize_factor
from sognet_jax.data.records.images import read_image
from sognet_jax.inference.prediction import Inference, Instances, detect, fuse, predict, propose
from sognet_jax.models.sognet import Pyramid, SOGNet, build_network, initialize, variable_shapes

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment.')
CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Checkpoint of its network; random weights without one.')
IMAGE = flags.DEFINE_string('image', None, 'An image file; random pixels without one.')
INSTANCES = flags.DEFINE_integer('instances', 46, 'Instances that shall be left after same-class removal.')
JSON = flags.DEFINE_string('json', None, 'File for the results.')

REPEATS = 3


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    choose_eigen()
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    config = CONFIG.value
    network = build_network(config.model, CATEGORY_SETS[config.categories])
    template = variable_shapes(network)
    variables = restore_variables(CHECKPOINT.value, template) if CHECKPOINT.value else initialize(network, 0)
    image, size = _image(config)
    settings = _settings_for(network, variables, image, size, dict(config.inference), INSTANCES.value)
    rows = list(_measure(network, variables, image, size, settings))
    header = {
        **describe(),
        'device': jax.devices()[0].device_kind,
        'jax': jax.__version__,
        'image': list(image.shape[1:3]),
        'dtype': config.model.dtype,
        'score_threshold': settings.score_threshold,
    }
    print(header)
    for row in rows:
        print(
            f'{row["part"]:<34}{row["seconds"]:8.2f} s   temporary {row["temporary_bytes"] / 2**20:8.0f} MiB'
            f'{row["gflop_per_second"]:8.1f} GFLOP/s'
        )
    peak = rows[0]['process_peak_bytes']
    print(f'{"process while the whole runs":<34}{"":10}   peak      {peak / 2**20:8.0f} MiB')
    if JSON.value:
        with open(JSON.value, 'w') as file:
            json.dump({**header, 'parts': rows}, file, indent=1)


def _image(config: Any) -> tuple[jax.Array, jax.Array]:
    """The padded image `[1, H, W, 3]`, with as little padding as a multiple of 32 allows, and its size `[1, 2]`."""
    settings = example_settings(config)
    if not IMAGE.value:
        pixels = np.random.default_rng(0).integers(0, 256, (1, *settings.image_size, 3)).astype(np.uint8)
        return jnp.array(pixels), jnp.array([settings.image_size])
    image = read_image(pathlib.Path(IMAGE.value))
    example = image_arrays(image, resize_factor(image.shape[:2], settings), settings)
    height, width = (-(-int(side) // 32) * 32 for side in example['image_size'])
    return jnp.array(example['image'][None, :height, :width]), jnp.array(example['image_size'][None])


def _settings_for(
    network: SOGNet, variables: Any, image: jax.Array, size: jax.Array, options: dict[str, Any], wanted: int
) -> Inference:
    """Settings with the score threshold that leaves `wanted` instances, or all where there are fewer.

    Suppression and removal go in score order, so that a higher threshold keeps the first of them.
    """
    everything = Inference(**options | {'score_threshold': 0.0})
    prediction = jax.jit(nn.apply(lambda network, *inputs: predict(network, *inputs, everything), network))(
        variables, image, size
    )
    kept = np.flatnonzero(prediction.instances.valid[0])[:wanted]
    scores = np.asarray(prediction.instances.scores[0])
    threshold = float(scores[kept[-1]]) * (1 - 1e-6) if len(kept) else 0.0
    print(f'{len(kept)} instances at a score threshold of {threshold:.4f}')
    return Inference(**options | {'score_threshold': threshold})


def _measure(network: SOGNet, variables: Any, image: jax.Array, size: jax.Array, settings: Inference) -> Any:
    """One row for the whole and for each part."""

    def time_part(name: str, function: Callable[..., Any], *inputs: Any) -> tuple[dict[str, Any], Any]:
        bound = nn.apply(function, network)
        compiled = jax.jit(bound).lower(variables, *inputs).compile()
        temporary = compiled.memory_analysis().temp_size_in_bytes
        run = Run(name, lambda: compiled(variables, *inputs), jax.block_until_ready, lambda: temporary)
        (measured,) = measure([run], REPEATS, 1)
        row = {'part': name, 'seconds': measured.seconds, 'processor_seconds': measured.processor_seconds}
        row |= {'gflop_per_second': count_flops(bound, variables, *inputs) / measured.seconds / 1e9}
        row |= {'temporary_bytes': temporary, 'process_peak_bytes': resident_bytes(run)[1]}
        return row, compiled(variables, *inputs)

    shape = image.shape[1:3]
    row, _ = time_part('whole', lambda network, *inputs: predict(network, *inputs, settings), image, size)
    yield row
    row, features = time_part('backbone and pyramid', lambda n, *inputs: n.extract_features(*inputs), image, size)
    yield row
    row, instances = time_part('proposals, boxes and masks', lambda n, *x: _detect(n, *x, settings), features, size)
    yield row
    row, semantic = time_part('semantic head', lambda n, *x: n.segment_semantics(*x), features, size)
    yield row
    row, _ = time_part('relation and fusion', lambda n, *x: fuse(n, *x, shape, settings), instances, semantic, size)
    yield row


def _detect(network: SOGNet, features: Pyramid, size: jax.Array, settings: Inference) -> Instances:
    return detect(network, features, propose(network, features, size, settings), size, settings)


if __name__ == '__main__':
    flags.mark_flags_as_required(['config'])
    app.run(main)

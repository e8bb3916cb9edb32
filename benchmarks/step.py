"""Images a second, peak memory and compile time of a training step and of inference, against torchvision's Mask R-CNN.

    python -m benchmarks.step --config=configs/coco_r50.py
    python -m benchmarks.step --config=configs/coco_r50.py --config.batch_size=2 --json=step.json

The peer, where torchvision is installed (`pip install -r requirements-peers.txt`), is maskrcnn_resnet50_fpn on the same
device, taking turns with ours, with the same parts frozen. It does less: it has no semantic head, no relations and no
panoptic map, and its mask head is not trained on the annotated boxes. On a GPU it runs under autocast in the type of
`model.dtype`. Both have random weights, images of `data.image_size`, `data.max_instances` annotated boxes, and no score
threshold, so that inference has as many instances as `inference.max_detections` lets through. Peak memory is what the
work takes beside weights, optimizer and inputs, measured as by benchmarks.kernels. Seconds are the best of several
rounds; where other programs were at work meanwhile, `busy` stands in place of their ratio.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import app, flags
from ml_collections import config_flags

from benchmarks import torch_mask_rcnn, torch_peers
from benchmarks.machine import OtherWork, describe, ratio
from benchmarks.made_up_batch import random_batch
from benchmarks.programs import inference_program, training_program
from benchmarks.timing import Run, measure
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.models.sognet import initialize
from sognet_jax.training.step import create_state

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment; batch_size images are worked on at a time.')
PROGRAMS = flags.DEFINE_list('programs', ['inference', 'training step'], 'What is measured.')
PEERS = flags.DEFINE_bool('peers', True, "Whether torchvision's network takes part.")
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Turns that each network has.', lower_bound=1)
JSON = flags.DEFINE_string('json', None, 'File for the results.')

Compiled = tuple[Run, float]
"""Something to measure, and the seconds that its compilation took."""


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    choose_eigen()
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    unknown = set(PROGRAMS.value) - set(BUILDERS)
    if unknown:
        raise app.UsageError(f'--programs={",".join(sorted(unknown))}: there are {", ".join(BUILDERS)}')
    config = CONFIG.value
    header = {
        **describe(), 'jax': jax.__version__, **torch_peers.versions(), 'device': jax.devices()[0].device_kind,
        'image': list(config.data.image_size), 'images': config.batch_size, 'dtype': config.model.dtype,
    }  # fmt: skip
    print(header)
    rows = [row for program in PROGRAMS.value for row in _measure(program, config)]
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps({**header, 'programs': rows}, indent=1))


def _measure(program: str, config: ml_collections.ConfigDict) -> list[dict[str, Any]]:
    batch = jax.tree.map(jnp.asarray, random_batch(config))
    ours, compile_seconds = BUILDERS[program](config, batch)
    peers = []
    if PEERS.value:
        peers = torch_mask_rcnn.runs(program, batch, config.model.dtype, config.inference.max_detections)
    calls = 1 if jax.default_backend() == 'cpu' else 10
    others = OtherWork()
    measured = measure([ours, *peers], ROUNDS.value, calls)
    cores = others.cores()
    rows = []
    for run, (seconds, processor, peak) in zip([ours, *peers], measured, strict=True):
        row = {'program': program, 'network': run.implementation, 'seconds': seconds, 'processor_seconds': processor}
        row |= {'images_per_second': config.batch_size / seconds, 'peak_bytes': peak, 'others_cores': cores}
        row |= {'compile_seconds': compile_seconds} if run is ours else {}
        rows.append(row)
        print(
            f'{program:<15}{run.implementation:<26}{row["images_per_second"]:9.3f} images/s{seconds:9.3f} s'
            f'{processor:9.3f} s of processors{peak / 2**20:9.0f} MiB'
            + (f'   compiled in {compile_seconds:.0f} s' if run is ours else '')
        )
    for run, (seconds, _, _) in zip(peers, measured[1:], strict=True):
        print(f'{program:<15}SOGNet / {run.implementation}: {ratio(measured[0].seconds, seconds, cores)}')
    return rows


def _inference(config: ml_collections.ConfigDict, batch: dict[str, jax.Array]) -> Compiled:
    network, function = inference_program(config, score_threshold=0.0)
    inputs = initialize(network, config.seed), batch['image'], batch['image_size']
    compiled, seconds = _compile(jax.jit(function), *inputs)
    return _run(compiled, lambda: compiled(*inputs)), seconds


def _training_step(config: ml_collections.ConfigDict, batch: dict[str, jax.Array]) -> Compiled:
    network, optimizer, step = training_program(config)
    state = create_state(initialize(network, config.seed), optimizer)
    compiled, seconds = _compile(jax.jit(step, donate_argnums=0), state, batch)

    def start() -> Any:
        nonlocal state
        state, metrics = compiled(state, batch)
        return state, metrics

    return _run(compiled, start), seconds


BUILDERS = {'inference': _inference, 'training step': _training_step}


def _compile(function: Any, *inputs: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    compiled = function.lower(*inputs).compile()
    return compiled, time.perf_counter() - start


def _run(compiled: Any, start: Callable[[], Any]) -> Run:
    memory = compiled.memory_analysis()
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Run('SOGNet', start, jax.block_until_ready, None if jax.default_backend() == 'cpu' else lambda: needed)


if __name__ == '__main__':
    flags.mark_flags_as_required(['config'])
    app.run(main)

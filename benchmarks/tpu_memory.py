"""Memory that inference and a training step need on a TPU v5e, from its compiler alone: no TPU is used or measured.

    pip install libtpu  # of the version that `pip show jax` wants for its extra, tpu
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m benchmarks.tpu_memory --json=benchmarks/results/NAME.json

Every program is compiled ahead of time for one device of a TPU that need not exist. `total` is what XLA says it
holds: arguments, results that do not reuse an argument's memory, temporaries, and code. A program that does not fit
into the TPU's 16 GB is refused by the compiler; its row has the beginning of the message. Minutes for each program.
"""

from __future__ import annotations

import importlib
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import app, flags
from jax.experimental import topologies

from benchmarks.machine import describe
from benchmarks.programs import inference_program, training_program
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import make_example
from sognet_jax.data.records.images import bare_record
from sognet_jax.models.sognet import variable_shapes
from sognet_jax.training.step import TrainState

CONFIGS = flags.DEFINE_list('configs', ['coco_r50', 'coco_r50:published'], 'Modules of `configs/`, with their variant.')
PROGRAMS = flags.DEFINE_list('programs', ['inference', 'training step'], 'What is compiled.')
DTYPES = flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Values of model.dtype.')
JSON = flags.DEFINE_string('json', None, 'File for the results.')

TOPOLOGY = 'v5e:2x2'
Program = tuple[Callable[..., Any], tuple[Any, ...], tuple[int, ...]]
"""A function, the shapes of its arguments, and the arguments whose memory it may reuse."""


def main(arguments: list[str]) -> None:
    """Compiles as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    result = {
        **describe(),
        'jax': jax.__version__,
        'compiled_for': f'one device of {TOPOLOGY}',
        'note': 'Figures of the TPU compiler, ahead of time; nothing ran on a TPU.',
        'programs': [],
    }
    for name, dtype, program in itertools.product(CONFIGS.value, DTYPES.value, PROGRAMS.value):
        row = {'config': name, 'dtype': dtype, 'program': program, **memory(config_of(name, dtype), program)}
        print(describe_row(row), flush=True)
        result['programs'].append(row)
        if JSON.value:  # each time, since the next compilation may take too long
            with open(JSON.value, 'w') as file:
                json.dump(result, file, indent=1)


def describe_row(row: dict[str, Any]) -> str:
    """One line for one program."""
    name = f'{row["config"]:<20}{row["dtype"]:<10}{row["program"]:<15}'
    if 'error' in row:
        return f'{name} {row["error"]}'
    total, temporary = row['total_bytes'] / 2**30, row['temporary_bytes'] / 2**30
    return f'{name} total {total:6.2f} GiB, of it temporary {temporary:6.2f} GiB'


def config_of(name: str, dtype: str) -> ml_collections.ConfigDict:
    """The config `module:variant` of `configs/`, computing in `dtype`."""
    module, _, variant = name.partition(':')
    config = importlib.import_module(f'configs.{module}').get_config(*[variant] if variant else [])
    config.model.dtype = dtype
    return config


def memory(config: ml_collections.ConfigDict, program: str) -> dict[str, Any]:
    """Bytes that a program takes on one device, or `error`, the beginning of what the compiler says against it.

    Args:
        config: an experiment; one image of its `data.image_size` is computed at a time.
        program: a name of `BUILDERS`.
    """
    function, shapes, donated = BUILDERS[program](config)
    device = topologies.get_topology_desc(TOPOLOGY, 'tpu').devices[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    start = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donated).lower(*shapes)
    try:
        analysis = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        return {'error': str(error)[:2000]}
    sizes = {
        'argument_bytes': analysis.argument_size_in_bytes,
        'output_bytes': analysis.output_size_in_bytes,
        'reused_bytes': analysis.alias_size_in_bytes,
        'temporary_bytes': analysis.temp_size_in_bytes,
        'code_bytes': analysis.generated_code_size_in_bytes,
    }
    total = sum(sizes.values()) - 2 * sizes['reused_bytes']
    return {'total_bytes': total, **sizes, 'compile_seconds': round(time.perf_counter() - start, 1)}


def inference_for_one(config: ml_collections.ConfigDict) -> Program:
    """`predict` for one image."""
    network, function = inference_program(config)
    batch = batch_shapes(config)
    return function, (variable_shapes(network), batch['image'], batch['image_size']), ()


def training_for_one(config: ml_collections.ConfigDict) -> Program:
    """`device_step` for one image, which replaces the state."""
    network, optimizer, step = training_program(config)
    variables = variable_shapes(network)
    state = TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        params=variables['params'],
        batch_stats=variables.get('batch_stats', {}),
        optimizer=jax.eval_shape(optimizer.init, variables['params']),
    )
    return step, (state, batch_shapes(config)), (0,)


BUILDERS = {'inference': inference_for_one, 'training step': training_for_one}


def batch_shapes(config: ml_collections.ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch with one example of the data contract."""
    settings = example_settings(config)
    _, content = cv2.imencode('.png', np.zeros((*settings.image_size, 3), np.uint8))
    example = make_example(bare_record(content.tobytes(), 0, 'black.png', settings.image_size), settings)
    example['example_index'] = np.int32(0)
    return {name: jax.ShapeDtypeStruct((1, *np.shape(x)), np.asarray(x).dtype) for name, x in example.items()}


if __name__ == '__main__':
    app.run(main)

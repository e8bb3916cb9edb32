"""Memory that inference and a training step need on a TPU, from its compiler alone: no TPU is used or measured.

    pip install libtpu  # of the version that `pip show jax` wants for its extra, tpu
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m benchmarks.tpu_memory --json=benchmarks/results/NAME.json

Every program is compiled ahead of time for one device of a TPU that need not exist. `total` is what XLA says it
holds: arguments, results that do not reuse an argument's memory, temporaries, and code. A program that does not fit
into the TPU's 16 GB is refused by the compiler; its row has the beginning of the message. Minutes for each program.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import jax
import ml_collections
from absl import app, flags
from jax.experimental import topologies

from benchmarks.machine import describe
from benchmarks.programs import BUILDERS, config_of
from sognet_jax.kernels.choice import Target, traced_for

CONFIGS = flags.DEFINE_list('configs', ['coco_r50', 'coco_r50:published'], 'Modules of `configs/`, with their variant.')
PROGRAMS = flags.DEFINE_list('programs', ['inference', 'training step'], 'What is compiled.')
DTYPES = flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Values of model.dtype.')
JSON = flags.DEFINE_string('json', None, 'File for the results.')

TOPOLOGY = flags.DEFINE_string('topology', 'v5e:2x2', 'The TPUs, of which one is compiled for: v5e:2x2, v6e:2x2.')


def main(arguments: list[str]) -> None:
    """Compiles as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    result = {
        **describe(),
        'jax': jax.__version__,
        'compiled_for': f'one device of {TOPOLOGY.value}',
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


def memory(config: ml_collections.ConfigDict, program: str) -> dict[str, Any]:
    """Bytes that a program takes on one device, or `error`, the beginning of what the compiler says against it.

    Args:
        config: an experiment; one image of its `data.image_size` is computed at a time.
        program: a name of `BUILDERS`.
    """
    function, shapes, donated = BUILDERS[program](config)
    device = topologies.get_topology_desc(TOPOLOGY.value, 'tpu').devices[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    start = time.perf_counter()
    try:
        with traced_for(Target('tpu')):
            analysis = jax.jit(function, donate_argnums=donated).lower(*shapes).compile().memory_analysis()
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


if __name__ == '__main__':
    app.run(main)

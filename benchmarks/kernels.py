"""Seconds and peak memory of the operators: our implementations against each other and against torchvision.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --only=deform_conv/200x336 --json=kernels.json

The peers run where they are installed (`pip install -r requirements-peers.txt`): torchvision's deform_conv2d and
roi_align on the same device in the same run, taking turns with ours. Panoptic fusion is compared with the step-by-step
formulation of the published code in NumPy, on CPUs.

Seconds, of the clock and of the processors, are the best of several rounds, per call. Where other programs were at work
meanwhile, `busy` stands in place of the ratio to the peer. Peak memory is what the work takes beside its inputs: on a
CPU by how much the process grows, on a GPU what XLA's compiled program and torch's allocator say. A GPU has torchvision
in float16 too, and in float32 with TF32; it does not take bfloat16.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from absl import app, flags
from tqdm import tqdm

from benchmarks import torch_peers
from benchmarks.kernel_cases import Case, all_cases
from benchmarks.machine import OtherWork, describe, ratio
from benchmarks.timing import measure

ONLY = flags.DEFINE_string('only', '', 'Only cases whose name (operator/shape/dtype) has this in it.')
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Turns that every implementation has.', lower_bound=1)
IMAGE = flags.DEFINE_list('image', [800, 1344], 'Height and width that the shapes belong to: multiples of 32.')
JSON = flags.DEFINE_string('json', None, 'File for the list of results.')

GPU_CALLS = 20
"""Calls begun in a row on a GPU, so that the time is the device's and not that of the way there."""

LINE = (
    '{operator:<16}{shape:<26}{dtype:<10}{pass:<19}{implementation:<22}{time:>12}{processor:>12}{memory:>12}{peer:>8}'
)


def main(arguments: list[str]) -> None:
    """Measures as the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    everything = all_cases(tuple(map(int, IMAGE.value)))
    cases = [case for case in everything if ONLY.value in case.name]
    if not cases:
        raise app.UsageError(f'--only={ONLY.value}: there is no such case among {[c.name for c in everything]}')
    print({**describe(), 'jax': jax.__version__, 'device': _device(), **torch_peers.versions()})
    print(LINE.format(**HEADINGS))
    results = []
    for case in tqdm(cases, unit='case', disable=None):
        results += _measure_case(case)
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps(results, indent=1))


def _measure_case(case: Case) -> list[dict[str, Any]]:
    """Results of one case, printed as a block of the table; ratios are to the first peer of the same pass."""
    results = []
    for name, runs in case.passes():
        on_gpu = jax.default_backend() == 'gpu'
        others = OtherWork()
        measured = measure(runs, ROUNDS.value, GPU_CALLS if on_gpu else 1)
        for run, (seconds, processor, peak) in zip(runs, measured, strict=True):
            results.append({
                'operator': case.operator, 'implementation': run.implementation, 'shape': case.shape,
                'dtype': case.dtype, 'pass': name, 'seconds': seconds, 'processor_seconds': processor,
                'peak_bytes': peak, 'others_cores': others.cores(), 'device': _device(),
            })  # fmt: skip
    for line in _lines(results):
        tqdm.write(line)
    return results


def _lines(results: list[dict[str, Any]]) -> Iterator[str]:
    for result in results:
        same_pass = [other for other in results if other['pass'] == result['pass']]
        fastest = min((o['seconds'] for o in same_pass if o['implementation'].startswith(PEERS)), default=None)
        peer = ratio(fastest, result['seconds'], result['others_cores']) if fastest else ''
        time, processor = (f'{1e3 * result[name]:.3f} ms' for name in ('seconds', 'processor_seconds'))
        memory = f'{result["peak_bytes"] / 2**20:.0f} MiB'
        yield LINE.format(**result, time=time, processor=processor, memory=memory, peer=peer)


PEERS = ('torchvision', 'step by step')
HEADINGS = {
    'operator': 'operator', 'shape': 'shape', 'dtype': 'dtype', 'pass': 'pass', 'implementation': 'implementation',
    'time': 'time', 'processor': 'CPU time', 'memory': 'memory', 'peer': 'peer',
}  # fmt: skip


def _device() -> str:
    return describe()['cpu'] if jax.default_backend() == 'cpu' else jax.devices()[0].device_kind


if __name__ == '__main__':
    app.run(main)

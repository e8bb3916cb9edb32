"""The network of the paper compiles for a TPU v5e and fits its memory: no TPU is needed, `pip install libtpu` is."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

CAPACITY = 16 * 2**30


@pytest.mark.slow
@pytest.mark.timeout(3700)
@pytest.mark.skipif(importlib.util.find_spec('libtpu') is None, reason='the TPU compiler, libtpu, is not installed')
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('program', ['inference', 'training step'])
def test_one_image_at_800_x_1344_fits_into_a_v5e(tmp_path, program, dtype):
    result = tmp_path / 'memory.json'
    flags = ['--configs=coco_r50', f'--dtypes={dtype}', f'--programs={program}', f'--json={result}']
    # JAX itself stays on the CPU: it would look for a TPU that is not there. And libtpu would ask the cloud's metadata.
    # The tests' own XLA flags are for the CPU.
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1', 'XLA_FLAGS': ''}
    command = [sys.executable, '-m', 'benchmarks.tpu_memory', *flags]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=3600)
    (row,) = json.loads(result.read_text())['programs']
    assert 'error' not in row, row['error']
    assert 0 < row['total_bytes'] < CAPACITY

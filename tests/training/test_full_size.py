"""The network of the paper at its full size, for one training step on the CPU."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

ONE_STEP = """
import importlib, resource, sys
import numpy as np
from sognet_jax.training.run import build_run
from benchmarks.made_up_batch import random_batch
config = importlib.import_module(f'configs.{sys.argv[1]}').get_config()
config.batch_size = 1
config.data.image_size = (800, 1344)
run = build_run(config)
batch = {name: value[None] for name, value in random_batch(config).items()}
state, metrics = run.step(run.state, batch)
values = {name: float(value) for name, value in metrics.items()}
print(values)
assert int(state.step) == 1 and all(np.isfinite(value) for value in values.values())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f'peak {peak:.1f} GiB')
assert peak < 24
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('name', ['coco_r50', 'cityscapes_r50'])
def test_one_step_at_800_x_1344_fits_into_24_gib(name):
    subprocess.run([sys.executable, '-c', ONE_STEP, name], cwd=ROOT, env=os.environ, check=True)

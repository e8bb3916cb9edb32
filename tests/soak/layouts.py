"""Trains on some devices and hosts, goes on and evaluates on others: `python -m tests.soak.layouts`.

Every pair of layouts for training; evaluation, prediction, export and `initialize_from` on 1 and 2 devices of what each
kind of layout saved; and 60 steps of two hosts beside 60 of one.
"""

import argparse
import itertools
import os
import pathlib
import shutil
import sys
import tempfile
import time

import cv2
import jax
import numpy as np

from sognet_jax.checkpoints.arrays import restore_state, stored_shapes
from tests.support.processes import CONFIG, losses, run

LAYOUTS = ((1, 1), (1, 2), (1, 8), (2, 1), (2, 2), (2, 4))
"""Hosts, and devices on each."""


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix='soak-'))
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder / 'compiled'))
    try:
        sys.exit(sum(not check(folder) for check in (long_runs, resumes, programs)))
    finally:
        shutil.rmtree(folder)


def train(folder, name, layout, *arguments):
    hosts, devices = layout
    often = ['--config.train.log_every=1', '--config.train.eval_every=0', f'--config.data.dir={folder / "data"}']
    text = run('train.py', CONFIG, *often, *arguments, f'--workdir={folder / name}', hosts=hosts, devices=devices)
    return losses(text)


def state(folder, name, step):
    checkpoint = folder / name / 'checkpoints' / str(step)
    return restore_state(checkpoint, stored_shapes(checkpoint))


def apart(one, other):
    """The largest difference of two trees' arrays, as a share of the largest value of each."""
    return max(
        float(np.abs(a - b).max() / (np.abs(a).max() + 1e-6))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        if a.size
    )


def long_runs(folder):
    """60 steps of 2 hosts x 2 devices and of 1 x 4."""
    arguments = ('--config.train.checkpoint_every=5', '--config.train.keep=100')
    two, one = (train(folder, f'long{hosts}', (hosts, 4 // hosts), *arguments) for hosts in (2, 1))
    same = [step for step in sorted(one) if one[step] == two[step]]
    difference = apart(state(folder, 'long2', 5)['params'], state(folder, 'long1', 5)['params'])
    ends = [np.mean([of[step]['total'] for step in range(51, 61)]) for of in (two, one)]
    first = next((step for step in sorted(one) if step not in same), None)
    print(f'60 steps: the first line that differs is {first}; parameters after 5 differ by {difference:.1e}')
    print(f'          mean total of the last ten steps: {ends[0]:.3f} on two hosts, {ends[1]:.3f} on one', flush=True)
    return (first is None or first > 6) and difference < 1e-4 and abs(ends[0] / ends[1] - 1) < 0.03


def resumes(folder):
    """Two steps in one layout, two more in each."""
    expected = train(folder, 'expected', (1, 1), '--config.train.steps=4')
    right = True
    for before in LAYOUTS:
        name = f'trained_{before[0]}x{before[1]}'
        found = train(folder, name, before, '--config.train.steps=2')
        for after in LAYOUTS:
            shutil.copytree(folder / name, folder / 'resumed')
            both = found | train(folder, 'resumed', after, '--config.train.steps=4')
            shutil.rmtree(folder / 'resumed')
            worst = max(abs(both[step][key] / expected[step][key] - 1) for step in expected for key in expected[step])
            right &= worst < 0.01
            print(
                f'{before} then {after}: losses of 4 steps within {100 * worst:.2f} % of those of one device',
                flush=True,
            )
    return right


def programs(folder):
    """What was trained in each layout, used on one and on two devices."""
    cv2.imwrite(str(folder / 'image.png'), np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    for (hosts, devices), used in itertools.product(LAYOUTS, (1, 2)):
        checkpoint, output = folder / f'trained_{hosts}x{devices}', folder / 'output'
        began = time.monotonic()
        run('eval.py', f'--checkpoint={checkpoint}', f'--output={output / "eval"}', devices=used)
        run('predict.py', f'--checkpoint={checkpoint}', f'--output={output / "p"}', folder / 'image.png', devices=used)
        run('export.py', f'--checkpoint={checkpoint}', f'--output={output / "export"}', '--platforms=cpu', devices=used)
        arguments = (f'--config.train.initialize_from={checkpoint}', '--config.train.steps=1')
        train(folder, 'output/started', (1, used), *arguments)
        shutil.rmtree(output)
        print(f'{hosts}x{devices} used on {used}: well, in {time.monotonic() - began:.0f} s', flush=True)
    return True


if __name__ == '__main__':
    main()

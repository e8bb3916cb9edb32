"""Interrupts a small training at random, again and again: `python -m tests.soak.interruptions --number=100`.

Each interruption is SIGKILL, SIGTERM or SIGINT at a random moment, some while a checkpoint is being saved, with 0 or 2
processes that make batches; a part of them hits one of two hosts. Runs of one host have to end with exactly the state
of a run that nobody interrupted; nothing may be left behind: processes, shared memory, unfinished checkpoints.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

import jax

from sognet_jax.checkpoints import latest_step
from sognet_jax.checkpoints.arrays import restore_state, stored_shapes
from tests.support.processes import CONFIG, finish, run, start

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--number', type=int, default=100, help='of interruptions')
    parser.add_argument('--hosts_share', type=float, default=0.15, help='of them that hit one of two hosts')
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--minutes', type=float, default=60, help='after which no more are begun')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix='soak-'))
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder / 'compiled'))
    try:
        soak(folder, options)
    finally:
        shutil.rmtree(folder)


def soak(folder, options):
    rng, end = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    training = [CONFIG, f'--config.data.dir={folder / "data"}', f'--config.train.steps={options.steps}']
    training += ['--config.train.checkpoint_every=10', '--config.train.eval_every=100']
    run('train.py', *training, f'--workdir={folder / "whole"}')
    counts, ended, problems = collections.Counter(), 0, []
    workdir, hosts = folder / 'run', 2 if options.hosts_share == 1 else 1
    while sum(counts.values()) < options.number and time.monotonic() < end:
        workers = rng.choice((0, 0, 2))
        processes = start(
            'train.py', *training, f'--workdir={workdir}', f'--config.data.workers={workers}', hosts=hosts
        )
        outcome = interrupt(processes, rng)
        counts[outcome] += outcome is not None
        problems += leftovers(folder)
        if outcome is None:
            ended += 1
            if hosts == 1:
                problems += differences(folder / 'whole', workdir, options.steps)
            shutil.rmtree(workdir)
            hosts = 2 if rng.random() < options.hosts_share else 1
        print(dict(counts), f'ended {ended}, step {latest_step(workdir)}, problems {problems[:5]}', flush=True)
    print(f'{sum(counts.values())} interruptions, {ended} trainings ended, {len(problems)} problems {problems}')


def interrupt(processes, rng):
    """Sends one signal to one of the hosts after a random time; its name, None where the training had ended before."""
    victim, number = rng.choice(processes), rng.choice(SIGNALS)
    patience = time.monotonic() + rng.uniform(1, 30)
    while time.monotonic() < patience and processes[0].poll() is None:
        time.sleep(0.01)
    if processes[0].poll() is None:
        os.kill(victim.pid, number)
    # A host that was killed before it had joined is waited for by the other one for 5 minutes.
    outcomes = finish(processes, timeout=330)
    statuses = {status for status, _ in outcomes}
    if statuses == {0}:
        return None
    # Before a training listens for signals, Python and the system end it by them.
    expected = {75, 1} if number != signal.SIGKILL else {-signal.SIGKILL, 1}
    if not statuses <= expected | {-number, -signal.SIGABRT}:
        print(number, *outcomes, sep='\\n')
    return f'{number.name} of {len(processes)}'


def leftovers(folder):
    """What a training that has ended may not leave."""
    time.sleep(1.5)  # orphans look for their parent twice a second
    found = subprocess.run(['pgrep', '-f', 'multiprocessing.spawn'], capture_output=True, text=True).stdout.split()
    found += [str(path) for path in pathlib.Path('/dev/shm').glob('psm_*')]
    return found


def differences(whole, workdir, steps):
    """The arrays of the last checkpoint that are not those of a run without interruptions."""
    checkpoints = [run_folder / 'checkpoints' / str(steps) for run_folder in (whole, workdir)]
    states = [restore_state(checkpoint, stored_shapes(checkpoint)) for checkpoint in checkpoints]
    same = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), *states)
    found = [] if all(jax.tree.leaves(same)) else [f'{workdir} ended with another state']
    return found + [str(path) for path in workdir.rglob('*orbax-checkpoint-tmp*')]


if __name__ == '__main__':
    main()

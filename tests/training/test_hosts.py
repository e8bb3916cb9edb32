"""Two processes on one machine as two hosts: what they train, evaluate and say, and how they end."""

import os
import signal
import time

import pytest

from sognet_jax.checkpoints import latest_step
from sognet_jax.training.log_files import METRICS
from tests.support.processes import CONFIG, finish, losses, run, start

pytestmark = pytest.mark.compiles


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    """Of a short training; nothing is prepared yet."""
    data = tmp_path_factory.mktemp('data')
    steps = ['--config.train.steps=4', '--config.train.eval_every=4', '--config.train.log_every=1']
    return [CONFIG, f'--config.data.dir={data}', *steps]


@pytest.fixture(scope='module')
def two_hosts(arguments, tmp_path_factory):
    """The folder of a run of two hosts with a device each, and what their first one said."""
    workdir = tmp_path_factory.mktemp('two') / 'run'
    return workdir, run('train.py', *arguments, f'--workdir={workdir}', hosts=2)


def test_two_hosts_train_and_evaluate_as_one_with_as_many_devices(arguments, two_hosts, tmp_path):
    workdir, said = two_hosts
    alone = run('train.py', *arguments, f'--workdir={tmp_path}', devices=2)
    assert losses(said) == losses(alone) and sorted(losses(said)) == [1, 2, 3, 4]
    assert (workdir / METRICS).read_text() == (tmp_path / METRICS).read_text()
    assert latest_step(workdir) == 4


def test_two_hosts_evaluate_to_the_digits_of_one(two_hosts, tmp_path):
    workdir, _ = two_hosts
    arguments = [f'--checkpoint={workdir}', '--pictures=3', '--save_predictions']
    said = run('eval.py', *arguments, f'--output={tmp_path / "two"}', hosts=2)
    alone = run('eval.py', *arguments, f'--output={tmp_path / "one"}')
    assert (tmp_path / 'two/metrics.json').read_bytes() == (tmp_path / 'one/metrics.json').read_bytes()
    for name in ('masks.json', 'boxes.json', 'overlaps.json'):
        path = f'predictions/{name}'
        assert (tmp_path / 'two' / path).read_bytes() == (tmp_path / 'one' / path).read_bytes()
    assert len(list((tmp_path / 'two').glob('*.png'))) == 3
    assert len(list((tmp_path / 'two/predictions/panoptic').iterdir())) == 16
    tables = [
        text[text.index('            PQ') : text.index('metrics.json')].rsplit('\n', 1)[0] for text in (said, alone)
    ]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(('number', 'victim', 'status'), [(signal.SIGTERM, 1, 75), (signal.SIGKILL, 1, 1)])
def test_a_signal_to_one_host_ends_both(arguments, tmp_path, number, victim, status):
    """Asked to end, both save the same step; killed, the other one says so at once. The relation head will do."""
    longer = [
        '--config.train.only=relation',
        '--config.train.steps=100000',
        '--config.train.eval_every=0',
        '--config.train.checkpoint_every=100000',
    ]
    processes = start('train.py', *arguments, *longer, f'--workdir={tmp_path}', hosts=2)
    while 'step 3/' not in processes[0].stdout.readline():
        assert processes[0].poll() is None
    os.kill(processes[victim].pid, number)
    began = time.monotonic()
    outcomes = finish(processes, timeout=60)
    assert time.monotonic() - began < 60
    assert outcomes[0][0] == status and outcomes[1][0] == (status if status == 75 else -number)
    last = outcomes[0][1].strip().splitlines()[-1]
    if status == 75:
        assert f'saved in {tmp_path}/checkpoints/{latest_step(tmp_path)}; the same command goes on from there' in last
    else:
        assert last.startswith('host 0: this host failed, or another one has ended: ')

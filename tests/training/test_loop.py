"""Whole runs on a few scenes: resumed, not finite, interrupted, evaluated, saved in spite of failures."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import CheckpointError, Checkpoints, describe, latest_step
from sognet_jax.data.records.storage import CorruptRecordError
from sognet_jax.files import InUseError
from sognet_jax.training import loop
from sognet_jax.training.interruption import Interrupted
from sognet_jax.training.loop import train
from sognet_jax.training.progress import NotFiniteError, check_finite
from sognet_jax.training.run import build_run
from sognet_jax.training.run_folder import RunFolder
from tests.support.examples import tiny_config

pytestmark = pytest.mark.compiles


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    config = tiny_config()
    config.data.dir = str(tmp_path_factory.mktemp('data'))
    config.data.num_train = 14
    config.data.num_validation = 1
    config.train.update(steps=4, log_every=2, checkpoint_every=2)
    return config


@pytest.fixture(scope='module')
def finished(config, tmp_path_factory):
    """The folder and the last state of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp('run')
    return workdir, train(config, workdir, say=print)


def test_a_resumed_run_ends_with_exactly_the_parameters_of_an_uninterrupted_one(config, finished, tmp_path):
    _, expected = finished
    shorter = config.copy_and_resolve_references()
    shorter.train.steps = 2
    assert int(train(shorter, tmp_path, say=print).step) == 2
    resumed = train(config, tmp_path, say=print)
    assert int(resumed.step) == 4
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(expected))


def test_a_run_writes_progress_checkpoints_and_tensorboard(config, finished, tmp_path):
    workdir, _ = finished
    assert sorted(folder.name for folder in (workdir / 'checkpoints').iterdir()) == ['2', '4']
    assert list((workdir / 'tensorboard').glob('events*'))
    shutil.copytree(workdir, tmp_path / 'copy')
    config = config.copy_and_resolve_references()
    config.train.steps = 5
    lines = []
    train(config, tmp_path / 'copy', say=lines.append)
    assert len(lines) == 2 and lines[0].startswith('goes on from step 4 of 5: ') and lines[1].startswith('step 5/5')
    for word in ('rpn_score', 'box_delta', 'mask', 'semantic', 'panoptic', 'relation', 'total', 'images/s', 'left'):
        assert word in lines[1]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoints(config, finished, tmp_path):
    workdir, state = finished
    shutil.copytree(workdir, tmp_path / 'copy')
    shutil.rmtree(tmp_path / 'copy' / 'checkpoints' / '4')
    checkpoints = Checkpoints(tmp_path / 'copy', keep=2, best='PQ')
    broken = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
    checkpoints.save(4, broken, describe(config, SHAPES))
    checkpoints.close()
    longer = config.copy_and_resolve_references()
    longer.train.steps = 8
    with pytest.raises(NotFiniteError, match='step 5: .*total = nan'):
        train(longer, tmp_path / 'copy', say=print)
    assert sorted(folder.name for folder in (tmp_path / 'copy' / 'checkpoints').iterdir()) == ['2', '4']


def test_the_error_names_the_loss():
    with pytest.raises(NotFiniteError, match='step 7: box_delta = inf; '):
        check_finite(7, {'mask': 0.5, 'box_delta': float('inf')})


def test_a_run_that_is_not_waited_for_comes_to_the_same_and_waits_for_no_step_that_it_has_just_started(
    config, finished, tmp_path, monkeypatch
):
    """As on GPUs. One CPU device can do it, too."""
    config = config.copy_and_resolve_references()
    config.train.update(steps=4, log_every=1, checkpoint_every=100)
    started, looked_at = [], []

    def watched(*arguments, **options):
        run = build_run(*arguments, **options)

        def step(state, batch):
            state, metrics = run.step(state, batch)
            started.append(metrics)
            return state, metrics

        step.lower = run.step.lower
        return dataclasses.replace(run, step=step)

    def looking(function):
        def look(tree):
            of = [number for number, metrics in enumerate(started, 1) if metrics is tree]
            looked_at.extend((number, len(started)) for number in of)
            return function(tree)

        return look

    monkeypatch.setattr(loop, 'steps_ahead', lambda: 2)
    monkeypatch.setattr(loop, 'build_run', watched)
    monkeypatch.setattr(jax, 'block_until_ready', looking(jax.block_until_ready))
    monkeypatch.setattr(jax, 'device_get', looking(jax.device_get))
    lines = []
    state = train(config, tmp_path, say=lines.append)
    monkeypatch.undo()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(finished[1]))
    assert [line.split('/')[0] for line in lines] == ['step 1', 'step 2', 'step 3', 'step 4']
    before_the_end = [(number, newest) for number, newest in looked_at if newest < 4]
    assert before_the_end == [(1, 3), (1, 3)]  # waited for, and read, when the third had been started
    assert {number for number, newest in looked_at if newest == 4} == {2, 3, 4}


def test_what_is_trained_already_is_said(config, finished):
    """A run that is complete says so by its silence; one that has gone further than it is asked to does not."""
    shorter = config.copy_and_resolve_references()
    shorter.train.steps = 3
    with pytest.raises(ValueError, match='train.steps = 3, but .* has been trained for 4'):
        train(shorter, finished[0], say=print)


def test_two_trainings_do_not_share_a_folder(config, finished):
    with RunFolder(config, finished[0], print), pytest.raises(InUseError, match=f'process {os.getpid()} on '):
        train(config, finished[0], say=print)


def test_an_evaluation_keeps_the_best_and_leaves_its_metrics(config, finished, tmp_path):
    config = config.copy_and_resolve_references()
    config.train.update(steps=4, eval_every=1, checkpoint_every=100, keep=1)
    values = iter([5.0, 9.0, 7.0, 8.0])
    seen = []

    def evaluate(variables, gives_up):
        assert not gives_up()
        seen.append(jax.device_get(variables['params']))
        return {'PQ': next(values), 'PQ/cloth': 1.0}

    said = []
    state = train(config, tmp_path, say=said.append, evaluate=evaluate)
    assert not any('best' in line for line in said)
    assert sorted(folder.name for folder in (tmp_path / 'checkpoints').iterdir()) == ['2', '4']
    assert [json.loads(line)['PQ'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [5, 9, 7, 8]
    jax.tree.map(np.testing.assert_array_equal, seen[-1], jax.device_get(state.params))


def test_a_metric_that_an_evaluation_lacks_is_said(config, tmp_path):
    """As PQ, where nothing has panoptic maps."""
    config = config.copy_and_resolve_references()
    config.train.update(steps=2, eval_every=1, checkpoint_every=100, keep=1)
    said, values = [], iter([{'mask_AP': 3.0}, {'PQ': float('nan')}])
    train(config, tmp_path, say=said.append, evaluate=lambda variables, gives_up: next(values))
    assert sum('has no PQ (config field train.best_metric)' in line for line in said) == 2


@pytest.mark.parametrize('during', ['a step', 'an evaluation'])
def test_a_signal_ends_a_run_after_its_step_and_it_goes_on_to_the_same_end(config, finished, tmp_path, during):
    config = config.copy_and_resolve_references()
    config.train.update(eval_every=3, checkpoint_every=100)

    def say(line):
        if during == 'a step' and line.startswith('step 2/'):
            os.kill(os.getpid(), signal.SIGTERM)

    def evaluate(variables, gives_up):
        if during == 'an evaluation':
            os.kill(os.getpid(), signal.SIGINT)
        return None if gives_up() else {'PQ': 1.0}

    with pytest.raises(Interrupted, match=f'ended after step 3, saved in {tmp_path}/checkpoints/3'):
        train(config, tmp_path, say=say, evaluate=evaluate)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    resumed = train(config, tmp_path, say=print)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(finished[1]))


def test_an_evaluation_that_fails_costs_no_step(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.train.update(steps=4, eval_every=3, checkpoint_every=100)

    def evaluate(variables, gives_up):
        raise CorruptRecordError('record 7 cannot be read')

    with pytest.raises(CorruptRecordError, match='record 7'):
        train(config, tmp_path, say=print, evaluate=evaluate)
    assert latest_step(tmp_path) == 3


@pytest.mark.parametrize(('steps', 'traced', 'written'), [(2, (1, 9), True), (4, (1, 3), True), (4, (1, 2), False)])
def test_a_trace_is_of_the_steps_that_there_are(config, finished, tmp_path, steps, traced, written):
    """The second and the third go on from step 2."""
    config = config.copy_and_resolve_references()
    config.train.steps = 2
    if steps == 4:
        train(config, tmp_path, say=print)
    config.train.steps = steps
    train(config, tmp_path, say=print, profile=traced)
    assert bool(list(tmp_path.rglob('*.xplane.pb'))) == written


def test_a_checkpoint_that_could_not_be_saved_is_said_and_another_one_is_saved(config, tmp_path, monkeypatch):
    config = config.copy_and_resolve_references()
    config.train.update(steps=4, log_every=1, checkpoint_every=2)
    save, failures = Checkpoints._save, iter([OSError(28, 'No space left on device')])

    def fails_once(self, step, parts, metrics):
        for error in failures:
            raise error
        save(self, step, parts, metrics)

    monkeypatch.setattr(Checkpoints, '_save', fails_once)
    lines = []
    train(config, tmp_path, say=lines.append)
    assert [line for line in lines if 'WARNING' in line] == [
        'WARNING: no checkpoint could be saved; tried again after step 3. No space left on device'
    ]
    assert sorted(folder.name for folder in (tmp_path / 'checkpoints').iterdir()) == ['3', '4']


def test_a_run_whose_end_cannot_be_saved_does_not_end_well(config, tmp_path, monkeypatch):
    def fails(self, step, parts, metrics):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Checkpoints, '_save', fails)
    with pytest.raises(CheckpointError, match='the state after step 4 could not be saved: No space left on device'):
        train(config, tmp_path, say=print)


def test_a_run_of_another_network_is_refused(config, finished, tmp_path):
    other = config.copy_and_resolve_references()
    other.model.box.features = 24
    with pytest.raises(CheckpointError, match='checkpoints/4'):
        train(other, finished[0], say=print)
    other = config.copy_and_resolve_references()
    other.model.pixel_std = tuple(2 * value for value in config.model.pixel_std)
    with pytest.raises(CheckpointError, match='model.pixel_std = .* contradicts .*checkpoints/4'):
        train(other, finished[0], say=print)
    other.train.initialize_from = str(finished[0])
    with pytest.raises(CheckpointError, match='model.pixel_std = .* contradicts .*checkpoints/4'):
        train(other, tmp_path, say=print)


@pytest.mark.parametrize('field', ['train.keep', 'train.checkpoint_every', 'train.log_every', 'batch_size'])
def test_numbers_that_cannot_be_are_refused_at_once(config, tmp_path, field):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict({field: 0})
    with pytest.raises(ValueError, match=f'config field {field} must be at least 1, not 0'):
        train(config, tmp_path, say=print)

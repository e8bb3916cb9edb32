"""Whole runs on a few scenes: resume, stop on what is not finite."""

import shutil

import jax
import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import CheckpointError, Checkpoints, describe
from sognet_jax.training.loop import train
from sognet_jax.training.progress import NotFiniteError, check_finite
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


def test_a_run_of_another_network_is_refused(config, finished):
    other = config.copy_and_resolve_references()
    other.model.box.features = 24
    with pytest.raises(CheckpointError, match='checkpoints/4'):
        train(other, finished[0], say=print)

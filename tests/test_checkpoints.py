"""Checkpoints that are missing, broken or of another network, and where a run is."""

import shutil

import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import CheckpointError, run_folder
from sognet_jax.predictor import restore_network
from tests.support.examples import tiny_config
from tests.support.runs import save_fresh_run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return save_fresh_run(tiny_config(), tmp_path_factory.mktemp('run'))


def test_another_network_s_checkpoint_is_refused(run):
    other = tiny_config()
    other.model.box.features = 24
    with pytest.raises(CheckpointError, match=r'of another network.*box_head.*checkpoint \(.*16.*network \(.*24'):
        restore_network(other, SHAPES, run)


def test_a_missing_or_broken_checkpoint_is_named(run, tmp_path):
    with pytest.raises(CheckpointError, match='no checkpoint in'):
        restore_network(tiny_config(), SHAPES, tmp_path)
    shutil.copytree(run, tmp_path / 'copy')
    for path in (tmp_path / 'copy' / 'checkpoints' / '3' / 'state').rglob('_METADATA'):
        path.write_text('{')
    with pytest.raises(CheckpointError, match='checkpoints/3'):
        restore_network(tiny_config(), SHAPES, tmp_path / 'copy')


def test_results_go_to_the_run_whatever_part_of_it_is_named(tmp_path):
    for path in (tmp_path, tmp_path / 'checkpoints', tmp_path / 'checkpoints' / '4'):
        assert run_folder(path) == tmp_path

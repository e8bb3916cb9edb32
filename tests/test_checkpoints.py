"""Checkpoints that are missing, broken or of another network, and where a run is."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from sognet_jax.categories import SHAPES, CategorySet
from sognet_jax.category_files import categories_to_json, category_set
from sognet_jax.checkpoints import (
    CheckpointError,
    describe,
    require_same_network,
    restore_variables,
    run_folder,
    save_variables,
    stored_config,
)
from sognet_jax.checkpoints.folders import step_folder
from sognet_jax.inference.prediction import Inference
from sognet_jax.models.sognet import build_network, initialize
from sognet_jax.predictor import restore_network
from tests.support.examples import inference_settings, tiny_config
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
    converted = tmp_path / 'checkpoints' / 'sognet'
    assert run_folder(converted) == converted, 'what no run has made is a run of its own'


def test_a_run_may_be_called_by_a_number(run, tmp_path):
    shutil.copytree(run, tmp_path / '0')
    step = tmp_path / '0' / 'checkpoints' / '3'
    assert step_folder(tmp_path / '0') == step_folder(step) == step


def test_a_checkpoint_says_its_config_and_its_classes(tmp_path):
    """Those of a file are in the checkpoint: the file may be gone."""
    categories = CategorySet('mine.json', SHAPES.stuff, SHAPES.things[:3])
    config = tiny_config()
    config.categories = str(tmp_path / 'mine.json')
    (tmp_path / 'mine.json').write_text(json.dumps(categories_to_json(categories)))
    network = build_network(config.model, categories)
    save_variables(tmp_path / 'saved', initialize(network, 0), describe(config, categories))
    (tmp_path / 'mine.json').unlink()
    stored = stored_config(tmp_path / 'saved')
    for section in ('model', 'inference', 'data', 'objective', 'optimizer'):
        assert stored[section].to_dict() == config[section].to_dict()
    assert category_set(stored.categories).things == categories.things
    _, variables = restore_network(stored, category_set(stored.categories), tmp_path / 'saved')
    jax.tree.map(np.testing.assert_array_equal, variables, initialize(network, 0))


@pytest.mark.parametrize(
    ('section', 'field', 'value', 'message'),
    [
        ('box', 'features', 24, r'model.box.features = 24 contradicts .*saved, whose network has 16'),
        ('relation', 'appearance', False, 'model.relation.appearance = False contradicts'),
    ],
)
def test_a_config_that_contradicts_the_network_is_named(tmp_path, section, field, value, message):
    config = tiny_config()
    save_variables(tmp_path / 'saved', {'params': {}}, describe(config, SHAPES))
    config.model[section][field] = value
    with pytest.raises(CheckpointError, match=message):
        restore_network(config, SHAPES, tmp_path / 'saved')


def test_what_may_be_used_otherwise_does_not_contradict(tmp_path):
    config = tiny_config()
    save_variables(tmp_path / 'saved', {'params': {}}, describe(config, SHAPES))
    config.model.dtype, config.inference.score_threshold = 'bfloat16', 0.9
    require_same_network(tmp_path / 'saved', config)
    config.categories = 'coco'
    with pytest.raises(CheckpointError, match="categories = 'coco'.*other classes"):
        require_same_network(tmp_path / 'saved', config)


def test_a_checkpoint_of_before_there_was_an_occlusion_head_is_one_without(tmp_path):
    old = tiny_config()
    del old.model['occlusion'], old.inference['occlusion_free_fraction'], old.inference['occlusion_largest_iou']
    save_variables(tmp_path / 'saved', initialize(build_network(old.model, SHAPES), 0), describe(old, SHAPES))
    restore_network(stored_config(tmp_path / 'saved'), SHAPES, tmp_path / 'saved')
    assert Inference(**stored_config(tmp_path / 'saved').inference) == inference_settings(**old.inference)
    config = tiny_config()
    config.model.occlusion.features = 3
    restore_network(config, SHAPES, tmp_path / 'saved')
    config.model.occlusion.width = 8
    with pytest.raises(CheckpointError, match='model.occlusion.features = 3 contradicts'):
        restore_network(config, SHAPES, tmp_path / 'saved')


def test_a_checkpoint_that_says_nothing_asks_for_the_config(run):
    with pytest.raises(CheckpointError, match='name it with --config'):
        stored_config(run)
    require_same_network(run, tiny_config())


SAVE_ON_TWO_DEVICES = """
import pathlib, sys
import jax, numpy as np
import orbax.checkpoint as ocp
everywhere = jax.sharding.NamedSharding(jax.make_mesh((2,), ('device',)), jax.sharding.PartitionSpec())
arrays = jax.device_put({'params': {'head': {'kernel': np.arange(6.0).reshape(2, 3)}}}, everywhere)
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(pathlib.Path(sys.argv[1]) / 'state', arrays)
"""


def test_what_two_devices_saved_is_restored_on_one(tmp_path):
    environment = os.environ | {'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}
    subprocess.run([sys.executable, '-c', SAVE_ON_TWO_DEVICES, tmp_path / 'saved'], env=environment, check=True)
    wanted = {'params': {'head': {'kernel': jax.ShapeDtypeStruct((2, 3), np.float64)}}}
    restored = restore_variables(tmp_path / 'saved', wanted)
    np.testing.assert_array_equal(restored['params']['head']['kernel'], np.arange(6.0).reshape(2, 3))

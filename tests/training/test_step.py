"""The training step: losses move only what they should, and devices change nothing."""

import os
import pathlib
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest

from sognet_jax.training.loop import build_run
from tests.examples import random_batch, tiny_config

ROOT = pathlib.Path(__file__).resolve().parents[2]


def to_devices(batch, devices):
    return {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in batch.items()}


def run_step(config, batch, devices):
    """Parameters and metrics after one step: a second one would amplify the rounding of another order of sums."""
    run = build_run(config)
    state, metrics = jax.block_until_ready(run.step(run.state, to_devices(batch, devices)))
    return jax.device_get((state.params, metrics))


ON_MANY_DEVICES = """
import pickle, sys
from tests.examples import random_batch, tiny_config
from tests.training.test_step import run_step
config = tiny_config()
pickle.dump(run_step(config, random_batch(config), devices=8), open(sys.argv[1], 'wb'))
"""


def test_eight_devices_compute_what_one_computes(tmp_path):
    config = tiny_config()
    one = run_step(config, random_batch(config), devices=1)
    environment = os.environ | {'XLA_FLAGS': '--xla_force_host_platform_device_count=8', 'PYTHONPATH': str(ROOT)}
    # A hang of pmap on few cores cannot be interrupted politely.
    command = ['timeout', '-s', 'KILL', '200', sys.executable, '-c', ON_MANY_DEVICES, str(tmp_path / 'eight')]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    eight = pickle.loads((tmp_path / 'eight').read_bytes())

    for name, value in one[1].items():
        np.testing.assert_allclose(eight[1][name], value, rtol=1e-5, err_msg=name)
    for (path, value), other in zip(
        jax.tree_util.tree_leaves_with_path(one[0]), jax.tree_util.tree_leaves(eight[0]), strict=True
    ):
        scale = np.abs(value).max() + 1e-6
        np.testing.assert_allclose(other / scale, value / scale, atol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope='module')
def trained():
    config = tiny_config()
    config.model.backbone.norm = 'frozen_batch'
    config.model.backbone.frozen_stages = 2
    config.objective.weights.semantic_boxes = 0.04
    config.objective.void_fraction = 0.3
    run = build_run(config)
    before = jax.device_get(run.state)
    after, metrics = run.step(run.state, to_devices(random_batch(config), 1))
    return before, jax.device_get(after), jax.device_get(metrics), config


def test_frozen_parts_stay_and_everything_else_moves(trained):
    before, after, _, _ = trained
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before.params), jax.tree_util.tree_leaves(after.params), strict=True
    ):
        name = jax.tree_util.keystr(path)
        frozen = any(part in name for part in ("['resnet']['conv1']", "['resnet']['res2_"))
        assert np.array_equal(old, new) == frozen, name
    jax.tree.map(np.testing.assert_array_equal, before.batch_stats, after.batch_stats)
    assert after.step == 1


def test_total_is_the_weighted_sum_of_finite_losses(trained):
    metrics, config = trained[2], trained[3]
    assert all(np.isfinite(value) for value in metrics.values())
    expected = sum(weight * metrics[name] for name, weight in config.objective.weights.items())
    np.testing.assert_allclose(metrics['total'], expected, rtol=1e-5)


def test_a_missing_annotation_switches_off_its_losses_alone(trained):
    config = trained[3]
    batch = random_batch(config)
    run = build_run(config)
    # Without a panoptic map no order is known, see the data contract.
    nothing = {'has_panoptic': np.zeros(8, bool), 'decided': np.zeros_like(batch['decided'])}
    _, metrics = run.step(run.state, to_devices(batch | nothing, 1))
    for name in ('semantic', 'semantic_boxes', 'panoptic', 'relation'):
        assert metrics[name] == 0, name
    for name in ('rpn_score', 'rpn_box', 'box_class', 'mask'):
        np.testing.assert_allclose(metrics[name], trained[2][name], rtol=1e-6, err_msg=name)
    run = build_run(config)
    _, metrics = run.step(run.state, to_devices(batch | {'has_instances': np.zeros(8, bool)}, 1))
    assert {name for name in config.objective.weights if metrics[name] > 0} == {'semantic'}


def test_overlaps_are_learned_from_instances_alone_but_not_without_them():
    config = tiny_config()
    config.objective.relation_loss = 'overlap'
    batch = random_batch(config)
    expected = build_run(config)
    _, both = expected.step(expected.state, to_devices(batch, 1))
    for name, count in (('has_panoptic', 8), ('has_instances', 0)):
        run = build_run(config)
        _, metrics = run.step(run.state, to_devices(batch | {name: np.zeros(8, bool)}, 1))
        np.testing.assert_allclose(metrics['relation'], both['relation'] * count / 8, rtol=1e-6)
    assert both['relation'] > 0


def test_an_image_without_instances_gives_finite_losses():
    config = tiny_config()
    batch = random_batch(config)
    nothing = {name: np.zeros_like(batch[name]) for name in ('boxes', 'classes', 'valid', 'masks', 'overlap', 'order')}
    run = build_run(config)
    state, metrics = run.step(run.state, to_devices(batch | nothing, 1))
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(jax.device_get(state.params)))


@pytest.mark.parametrize(
    ('section', 'field', 'value', 'message'),
    [
        ('model', 'wings', 2, 'model.wings'),
        ('objective', 'relation_loss', 'both', 'objective.relation_loss'),
        ('objective', 'outside', 'nowhere', 'objective.outside'),
        ('objective', 'panoptic_head', 3, 'objective.panoptic_head'),
        ('objective', 'void_fraction', 1.0, 'objective.void_fraction'),
    ],
)
def test_a_wrong_config_field_is_named(section, field, value, message):
    config = tiny_config()
    with config.unlocked():
        config[section][field] = value
    with pytest.raises(ValueError, match=message):
        build_run(config)

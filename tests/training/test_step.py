"""The training step: losses move only what they should, and devices change nothing."""

import os
import pickle
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from benchmarks.made_up_batch import random_batch
from sognet_jax.categories import SHAPES
from sognet_jax.models.sognet import build_network, initialize
from sognet_jax.training.objective import build_objective, training_losses
from sognet_jax.training.run import build_run
from tests.support.examples import tiny_config
from tests.support.paths import ROOT
from tests.support.training import first_step

pytestmark = pytest.mark.compiles


@pytest.fixture(scope='module')
def tiny():
    """A config and its first step."""
    config = tiny_config()
    return config, first_step(config)[1]


ON_MANY_DEVICES = """
import pickle, sys
from benchmarks.made_up_batch import random_batch
from tests.support.examples import tiny_config
from tests.support.training import first_step
config = tiny_config()
state, metrics = first_step(config, devices=8)[1](random_batch(config))
pickle.dump((state.params, metrics), open(sys.argv[1], 'wb'))
"""


def test_eight_devices_compute_what_one_computes(tiny, tmp_path):
    config, step = tiny
    state, metrics = step(random_batch(config))
    xla_flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8'
    environment = os.environ | {'XLA_FLAGS': xla_flags, 'PYTHONPATH': str(ROOT)}
    # A hang of pmap on few cores cannot be interrupted politely.
    command = ['timeout', '-s', 'KILL', '200', sys.executable, '-c', ON_MANY_DEVICES, str(tmp_path / 'eight')]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    require_same(pickle.loads((tmp_path / 'eight').read_bytes()), (state.params, metrics))


def test_accumulated_parts_of_a_batch_are_one_batch(tiny):
    """Of images without instances too, which a part may have alone."""
    config, step = tiny
    batch = random_batch(config)
    batch['valid'][:4] = False
    state, metrics = step(batch)
    accumulating = config.copy_and_resolve_references()
    accumulating.optimizer.accumulate = 4
    in_parts, values = first_step(accumulating)[1](batch)
    require_same((in_parts.params, values), (state.params, metrics))


def require_same(mine, theirs):
    """Parameters and metrics that differ by the order of sums alone."""
    (params, values), (wanted, metrics) = mine, theirs
    for name, value in metrics.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5, err_msg=name)
    for (path, value), other in zip(
        jax.tree_util.tree_leaves_with_path(wanted), jax.tree_util.tree_leaves(params), strict=True
    ):
        scale = np.abs(value).max() + 1e-6
        np.testing.assert_allclose(other / scale, value / scale, atol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope='module')
def trained():
    """A config, its first step, and the states before and after it with the metrics."""
    config = tiny_config()
    config.model.backbone.norm = 'frozen_batch'
    config.model.backbone.frozen_stages = 2
    config.objective.weights.semantic_boxes = 0.04
    config.model.occlusion.update(width=4, features=8, pairs=4)
    config.objective.void_fraction = 0.3
    before, step = first_step(config)
    return config, step, before, *step(random_batch(config))


def test_frozen_parts_stay_and_everything_else_moves(trained):
    _, _, before, after, _ = trained
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before.params), jax.tree_util.tree_leaves(after.params), strict=True
    ):
        name = jax.tree_util.keystr(path)
        frozen = any(part in name for part in ("['resnet']['conv1']", "['resnet']['res2_"))
        assert np.array_equal(old, new) == frozen, name
    jax.tree.map(np.testing.assert_array_equal, before.batch_stats, after.batch_stats)
    assert after.step == 1


def test_total_is_the_weighted_sum_of_finite_losses(trained):
    config, _, _, _, metrics = trained
    assert all(np.isfinite(value) for value in metrics.values())
    expected = sum(weight * metrics[name] for name, weight in config.objective.weights.items())
    np.testing.assert_allclose(metrics['total'], expected, rtol=1e-5)


def test_a_missing_annotation_switches_off_its_losses_alone(trained):
    config, step, _, _, complete = trained
    batch = random_batch(config)
    # Without a panoptic map no order is known, see the data contract.
    _, metrics = step(batch | {'has_panoptic': np.zeros(8, bool), 'decided': np.zeros_like(batch['decided'])})
    for name in ('semantic', 'semantic_boxes', 'panoptic', 'relation', 'occlusion'):
        assert metrics[name] == 0, name
    for name in ('rpn_score', 'rpn_box', 'box_class', 'mask'):
        np.testing.assert_allclose(metrics[name], complete[name], rtol=1e-6, err_msg=name)
    _, metrics = step(batch | {'has_instances': np.zeros(8, bool)})
    assert {name for name in config.objective.weights if metrics[name] > 0} == {'semantic'}


def test_overlaps_are_learned_from_instances_alone_but_not_without_them():
    config = tiny_config()
    config.objective.relation_loss = 'overlap'
    batch = random_batch(config)
    network = build_network(config.model, SHAPES)
    keys = jax.random.split(jax.random.key(0), config.batch_size)
    objective, variables = build_objective(config.objective), initialize(network, 0)

    @jax.jit
    def relation_loss(batch):
        return nn.apply(training_losses, network)(variables, batch, keys, objective)[0]['relation']

    both = relation_loss(batch)
    for name, count in (('has_panoptic', 8), ('has_instances', 0)):
        np.testing.assert_allclose(relation_loss(batch | {name: np.zeros(8, bool)}), both * count / 8, rtol=1e-6)
    assert both > 0


def test_an_image_without_instances_gives_finite_losses(tiny):
    config, step = tiny
    batch = random_batch(config)
    nothing = {name: np.zeros_like(batch[name]) for name in ('boxes', 'classes', 'valid', 'masks', 'overlap', 'order')}
    state, metrics = step(batch | nothing)
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))


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

"""The learning rate against the published schedule, and the update against a loop over its definition."""

import json

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from sognet_jax.configs import coco_r50
from sognet_jax.convert.names import published_entry
from sognet_jax.models.sognet import variable_shapes
from sognet_jax.training.optimizer import (
    biases,
    build_optimizer,
    decays,
    learning_rate_schedule,
    parameter_labels,
    update_rule,
)
from tests.support import golden_files, published


@golden_files.parametrize('lr_schedule')
def test_warm_up_and_drops_are_the_published_ones(golden_path):
    golden = golden_files.load(golden_path)
    schedule = learning_rate_schedule(
        float(golden['base_lr']), warmup_steps=int(golden['warmup']), warmup_factor=0.1, drops=golden['decay'].tolist()
    )
    np.testing.assert_allclose([schedule(step) for step in golden['iterations']], golden['lr_8gpu'], rtol=1e-5)


def test_learning_rate_is_in_proportion_to_the_batch():
    settings = coco_r50.get_config().optimizer
    _, schedule = build_optimizer(settings, 32, 2)
    assert float(schedule(100_000)) == pytest.approx(4 * settings.learning_rate)


@pytest.mark.parametrize('nesterov', [True, False])
def test_update_is_sgd_with_momentum_and_decay_of_kernels_only(nesterov):
    settings = ConfigDict(coco_r50.get_config().optimizer)
    settings.update(nesterov=nesterov, warmup_steps=0, learning_rate=0.1, weight_decay=0.01, drops=(3,))
    optimizer, _ = build_optimizer(settings, 8, frozen_stages=2)
    rng = np.random.default_rng(0)

    def draw():
        return {
            'resnet': {name: {'kernel': rng.normal(size=(2, 2))} for name in ('conv1', 'res2_0', 'res3_0')},
            'box_head': {'kernel': rng.normal(size=(3, 2)), 'bias': rng.normal(size=2)},
        }

    params = draw()
    weights, bias = params['box_head']['kernel'].copy(), params['box_head']['bias'].copy()
    speeds = [np.zeros_like(weights), np.zeros_like(bias)]
    state, current = optimizer.init(params), params
    for step in range(5):
        gradients = draw()
        updates, state = optimizer.update(gradients, state, current)
        current = optax.apply_updates(current, updates)
        rate = 0.1 if step < 3 else 0.01
        for index, (value, decay, name) in enumerate(((weights, 0.01, 'kernel'), (bias, 0.0, 'bias'))):
            gradient = gradients['box_head'][name] + decay * value
            speeds[index] = 0.9 * speeds[index] + gradient
            value -= rate * (gradient + 0.9 * speeds[index] if nesterov else speeds[index])
    np.testing.assert_allclose(current['box_head']['kernel'], weights, rtol=1e-5)
    np.testing.assert_allclose(current['box_head']['bias'], bias, rtol=1e-5)
    for name, moves in (('conv1', False), ('res2_0', False), ('res3_0', True)):
        moved = current['resnet'][name]['kernel'] != params['resnet'][name]['kernel']
        assert np.all(np.asarray(moved) == moves), name


def published_settings(**fields):
    settings = ConfigDict(coco_r50.get_config().optimizer)
    settings.update(nesterov=False, momentum_holds_rate=True, bias_rate=2.0, **fields)
    return settings


@golden_files.parametrize('sgd')
def test_the_published_update_is_the_stored_one(golden_path):
    golden = golden_files.load(golden_path)
    settings = published_settings(
        momentum=float(golden['momentum']),
        weight_decay=float(golden['weight_decay']),
        drops=tuple(golden['momentum_div10_after_step'].tolist()),
    )
    rates = jax.numpy.asarray(golden['lr'])
    optimizer = update_rule(settings, lambda step: rates[step], 0.0)
    params = {'layer': {'kernel': golden['w'][0], 'bias': golden['b'][0]}}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(len(rates)):
        gradients = {'layer': {'kernel': golden['grad_w'][step], 'bias': golden['grad_b'][step]}}
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params['layer']['kernel'], golden['w'][step + 1], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(params['layer']['bias'], golden['b'][step + 1], rtol=1e-6, atol=1e-7)


def test_the_velocity_shrinks_before_the_first_update_with_the_lower_rate():
    settings = published_settings(learning_rate=1.0, weight_decay=0.0, warmup_steps=0, drops=(2,))
    optimizer, schedule = build_optimizer(settings, 8, frozen_stages=2)
    params = {'resnet': {'conv1': {'kernel': np.ones(1, np.float32)}}, 'head': {'bias': np.zeros(1, np.float32)}}
    state, moves = optimizer.init(params), []
    for _ in range(3):
        updates, state = optimizer.update(jax.tree.map(np.ones_like, params), state, params)
        moves.append(-float(updates['head']['bias'][0]))
        assert float(updates['resnet']['conv1']['kernel'][0]) == 0
    assert [float(schedule(step)) for step in range(3)] == pytest.approx([1, 1, 0.1])
    assert moves == pytest.approx([2, 0.9 * 2 + 2, 0.9 * 0.38 + 0.2])


@pytest.mark.parametrize('holds', [True, False])
def test_biases_alone_learn_at_their_own_rate(holds):
    settings = published_settings(weight_decay=0.0)
    settings.momentum_holds_rate = holds
    params = {'norm': {'scale': np.ones(2), 'bias': np.zeros(2)}, 'score': {'kernel': np.ones((2, 2))}}
    moves = {}
    for rate in (1.0, 2.0):
        settings.bias_rate = rate
        optimizer, _ = build_optimizer(settings, 8, frozen_stages=2)
        state = optimizer.init(params)
        for _ in range(3):
            moves[rate], state = optimizer.update(jax.tree.map(np.ones_like, params), state, params)
    moves[1.0]['norm']['bias'] *= 2
    jax.tree.map(np.testing.assert_allclose, moves[2.0], moves[1.0])


def test_the_published_groups_follow_from_the_names_of_the_leaves():
    paths = [golden_files.folder() / name for name in ('optimizer_groups.json', 'state_dict_keys.json')]
    if not all(path.is_file() for path in paths):
        pytest.skip(f'no optimizer_groups.json and state_dict_keys.json in {golden_files.folder()}')
    stored = json.loads(paths[0].read_text())['groups']
    groups = {key: (group['lr_mult'], group['weight_decay'] != 0) for group in stored for key in group['params']}
    params = variable_shapes(published.network())['params']
    doubled, decayed, labels = map(
        traverse_util.flatten_dict, (biases(params), decays(params), parameter_labels(params, frozen_stages=2))
    )
    found = {
        published_entry(path).name: (2 if doubled[path] else 1, decayed[path])
        for path, label in labels.items()
        if label != 'frozen'
    }
    assert found == groups


def test_nesterov_momentum_cannot_hold_the_rate():
    settings = published_settings()
    settings.nesterov = True
    with pytest.raises(ValueError, match='optimizer.nesterov and optimizer.momentum_holds_rate cannot both be True'):
        build_optimizer(settings, 8, frozen_stages=2)

"""The learning rate against the published schedule, and the update against a loop over its definition."""

import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import coco_r50
from sognet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from tests import golden_files


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

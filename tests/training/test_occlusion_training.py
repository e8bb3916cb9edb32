"""The occlusion head trained on a finished network: nothing else moves, and it learns what it is shown."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from benchmarks.made_up_batch import random_batch
from sognet_jax.categories import SHAPES
from sognet_jax.models.sognet import build_network, initialize
from sognet_jax.training.objective import build_objective, occlusion_training_loss, training_losses
from sognet_jax.training.run import build_run
from tests.support.examples import tiny_config
from tests.support.runs import save_fresh_run
from tests.support.training import to_devices

pytestmark = pytest.mark.compiles


def with_head(config):
    config.batch_size, config.data.max_instances = 4, 7
    config.model.occlusion.update(width=8, features=16, side=7, pairs=8)
    return config


def test_the_head_alone_learns_a_batch_by_heart(tmp_path):
    save_fresh_run(tiny_config(), tmp_path)
    config = with_head(tiny_config())
    config.seed = 1
    config.train.update(only='occlusion', initialize_from=str(tmp_path))
    config.optimizer.update(learning_rate=0.02, gradient_clip=1.0)
    run = build_run(config)
    before = jax.device_get(run.state.params)
    theirs = initialize(build_network(tiny_config().model, SHAPES), 0)['params']
    jax.tree.map(np.testing.assert_array_equal, {name: before[name] for name in theirs}, theirs)
    state, batch, seen = run.state, to_devices(random_batch(config), 1), []
    for _ in range(40):
        state, metrics = run.step(state, batch)
        seen.append({name: float(value) for name, value in metrics.items()})
    after = jax.device_get(state.params)
    jax.tree.map(np.testing.assert_array_equal, {name: after[name] for name in theirs}, theirs)
    for new, old in zip(*(jax.tree.leaves(one['occlusion_head']) for one in (after, before)), strict=True):
        assert np.any(new != old)
    first, last = (np.mean([one['occlusion'] for one in steps]) for steps in (seen[:5], seen[-5:]))
    right, asked = (sum(one[name] for one in seen[-5:]) for name in ('rightly_ordered_pairs', 'ordered_pairs'))
    assert last < 0.5 * first and right > 0.85 * asked, (first, last, right, asked)
    assert all(one['total'] == one['occlusion'] for one in seen)


def test_alone_it_has_the_loss_and_gradient_that_it_has_in_the_network():
    config = with_head(tiny_config())
    batch, objective = random_batch(config), build_objective(config.objective)
    network = build_network(config.model, SHAPES)
    variables = initialize(network, 0)
    keys = jax.random.split(jax.random.key(0), config.batch_size)

    def loss(head, losses):
        params = variables['params'] | {'occlusion_head': head}
        values, counts = nn.apply(losses, network)({'params': params}, batch, keys, objective)
        return values['occlusion'], counts

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    head = variables['params']['occlusion_head']
    (alone, counts), moves = gradient(head, occlusion_training_loss)
    (together, _), expected = gradient(head, training_losses)
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6), moves, expected)
    assert counts['ordered_pairs'] == counts['related_pairs'] > 0 and counts['ordered_pairs'] % 2 == 0

"""The relation head by itself: trained without images, evaluated on annotated instances, silent runs said aloud."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from benchmarks.made_up_batch import random_batch
from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import CheckpointError, trained_parts
from sognet_jax.models.sognet import build_network, initialize, initialize_relation_head
from sognet_jax.programs.evaluate import Outputs, evaluate
from sognet_jax.training.loop import train
from sognet_jax.training.objective import build_objective, relation_training_loss, training_losses, weighted_sum
from sognet_jax.training.run import build_run
from tests.support.examples import tiny_config
from tests.support.runs import save_fresh_run

pytestmark = pytest.mark.compiles


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    config = tiny_config()
    config.data.dir = str(tmp_path_factory.mktemp('data'))
    config.data.num_train = 60
    config.data.num_validation = 20
    config.data.max_instances = 6
    config.optimizer.learning_rate = 0.02
    config.train.update(only='relation', steps=40, log_every=10, checkpoint_every=40)
    return config


@pytest.fixture(scope='module')
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('run')
    return workdir, train(config, workdir, say=print)


def whole(config):
    """The same network, all of which is trained."""
    config = config.copy_and_resolve_references()
    config.train.only = ''
    return config


def test_the_order_is_learned_without_an_image(config, finished, tmp_path, capsys):
    workdir, state = finished
    assert set(state.params) == {'relation_head'} and trained_parts(workdir) == {'relation_head'}
    metrics = evaluate(whole(config), workdir, Outputs(tmp_path))  # the checkpoint knows that it has nothing else
    assert metrics['order_accuracy_true'] > 20 and 'PQ' not in metrics
    assert json.loads((tmp_path / 'metrics.json').read_text())['order_pairs'] == metrics['order_pairs'] > 0
    printed = capsys.readouterr().out
    assert 'who covers whom' in printed and 'best category-only rule' in printed and 'PQ' not in printed
    with pytest.raises(ValueError, match='relation head alone'):
        evaluate(config, workdir, Outputs(tmp_path, report=True))


def test_a_relation_checkpoint_is_no_network_and_a_network_has_relations(config, finished, tmp_path):
    with pytest.raises(CheckpointError, match='of another network.*resnet'):
        build_run(started_from(whole(config), finished[0]))
    save_fresh_run(whole(config), tmp_path)
    state = build_run(started_from(config, tmp_path)).state
    assert set(state.params) == {'relation_head'}
    metrics = evaluate(
        config, tmp_path, Outputs(tmp_path / 'eval')
    )  # train.only asks for the relation head of the network
    assert 'order_accuracy' in metrics and 'PQ' not in metrics


def started_from(config, checkpoint):
    config = config.copy_and_resolve_references()
    config.train.initialize_from = str(checkpoint)
    return config


def test_the_head_starts_as_it_does_in_the_network():
    network = build_network(tiny_config().model, SHAPES)
    alone, together = initialize_relation_head(network, 3)['params'], initialize(network, 3)['params']
    jax.tree.map(np.testing.assert_array_equal, alone['relation_head'], together['relation_head'])


def test_the_head_alone_has_the_loss_and_gradient_that_it_has_in_the_network():
    """So are its counts, where the panoptic loss has no weight; everything else of the network moves nothing of it."""
    config = tiny_config()
    config.objective.weights.panoptic = 0.0
    batch, objective = random_batch(config), build_objective(config.objective)
    network = build_network(config.model, SHAPES)
    variables = initialize(network, 0)
    keys = jax.random.split(jax.random.key(0), config.batch_size)

    def total(head, losses, variables, batch):
        variables = variables | {'params': variables['params'] | head}
        values, counts = nn.apply(losses, network)(variables, batch, keys, objective)
        return weighted_sum({'relation': values['relation']}, objective.weights), counts

    gradient = jax.jit(jax.value_and_grad(total, has_aux=True), static_argnums=1)
    head = {'relation_head': variables['params']['relation_head']}
    without_pixels = {name: batch[name] for name in batch.keys() - {'image', 'image_size', 'semantic', 'panoptic'}}
    found = gradient(head, relation_training_loss, {'params': {}}, without_pixels)
    expected = gradient(head, training_losses, variables, batch)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), found, expected)
    assert found[0][1]['overlapping_pairs'] > 0


@pytest.mark.parametrize(
    ('only', 'weight', 'message'),
    [
        ('mask', 1.0, 'train.only'),
        ('relation', 0.0, 'relation must'),
        ('occlusion', 1.0, 'model.occlusion.width and train.initialize_from'),
    ],
)
def test_what_cannot_be_trained_alone_is_named(only, weight, message):
    config = tiny_config()
    config.train.only = only
    config.objective.weights.relation = weight
    with pytest.raises(ValueError, match=message):
        build_run(config)


def test_a_silent_run_says_so(config, finished, tmp_path):
    """With the squared error, a head that starts saturated stays so: training and evaluation warn."""
    config = config.copy_and_resolve_references()
    config.objective.relation_loss = 'order'
    config.objective.weights.relation = 2000.0
    config.optimizer.update(relation_clip=0.0, learning_rate=0.5)
    config.train.silent_lines = 2
    lines = []
    train(config, tmp_path, say=lines.append)
    warnings = [line for line in lines if line.startswith('WARNING: ')]
    assert len(warnings) == 2 and 'step 20' in warnings[0] and 'saturated' in warnings[0]
    evaluate(config, tmp_path, Outputs(tmp_path / 'eval', say=lines.append))
    assert any('WARNING: O stays below 0.5 on all of the' in line for line in lines)

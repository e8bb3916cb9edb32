"""Every config builds; what is wrong in one is said with the field's name."""

import os
import subprocess
import sys

import jax
import pytest

from sognet_jax.categories import CATEGORY_SETS
from sognet_jax.configs import cityscapes_r50, coco_mini, coco_r50, coco_r101_dcn, order, own_data, shapes
from sognet_jax.data.configured import example_settings, has_annotations, prepare_split, training_source
from sognet_jax.inference.prediction import Inference
from sognet_jax.models.sognet import build_network, variable_shapes
from sognet_jax.training.objective import build_objective
from sognet_jax.training.optimizer import build_optimizer
from sognet_jax.training.run import build_run
from tests.support.paths import ROOT

EXPERIMENTS = [
    (order, ''), (shapes, ''), (shapes, 'overlap'), (shapes, 'occlusion'), (shapes, 'crowded'), (coco_mini, ''),
    (own_data, ''), (coco_r50, ''),
    (coco_r50, 'ablation'),
    (coco_r50, 'paper'), (coco_r50, 'published'), (coco_r101_dcn, ''), (coco_r101_dcn, 'published'),
    (cityscapes_r50, ''), (cityscapes_r50, 'paper'), (cityscapes_r50, 'published'), (cityscapes_r50, 'from_coco'),
]  # fmt: skip


@pytest.mark.parametrize(('module', 'variant'), EXPERIMENTS, ids=lambda value: getattr(value, '__name__', value))
def test_every_config_builds(module, variant):
    config = module.get_config(variant)
    categories = CATEGORY_SETS[config.categories]
    network = build_network(config.model, categories)
    variables = variable_shapes(network)
    score = variables['params']['box_head']['score']['kernel']
    assert score.shape == (config.model.box.features, categories.num_things + 1)
    build_objective(config.objective)
    Inference(**config.inference)
    optimizer, schedule = build_optimizer(config.optimizer, config.batch_size, config.model.backbone.frozen_stages)
    jax.eval_shape(optimizer.init, variables['params'])
    assert schedule(config.train.steps - 1) < schedule(config.optimizer.warmup_steps)
    assert all(side % 32 == 0 for side in example_settings(config).image_size)


@pytest.mark.parametrize('module', [order, shapes, coco_mini, own_data, coco_r50, coco_r101_dcn, cityscapes_r50])
def test_an_unknown_variant_is_refused(module):
    with pytest.raises(ValueError, match="'tiny'"):
        module.get_config('tiny')


def test_wrong_fields_are_named():
    config = shapes.get_config()
    config.categories = 'coc'
    with pytest.raises(ValueError, match='config field categories'):
        build_run(config)
    config = shapes.get_config()
    config.data.name = 'shape'
    with pytest.raises(ValueError, match="data.name must be .* not 'shape'"):
        prepare_split(config, 'train')
    config = coco_r50.get_config()
    config.data.source = '/no/such/folder'
    with pytest.raises(ValueError, match="data.source = '/no/such/folder' is no folder"):
        prepare_split(config, 'val2017')


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('image_size', (128,)), ('image_size', (128, 0)), ('image_size', (128, 130)), ('max_instances', 0),
        ('also_train_on', ('elsewhere',)), ('also_train_on', ('ab',)), ('also_train_on', (('elsewhere', 'train', 1),)),
    ],
)  # fmt: skip
def test_data_fields_are_refused_before_anything_is_written(field, value, tmp_path):
    config = shapes.get_config()
    config.data.dir = str(tmp_path)
    config.data[field] = value
    with pytest.raises(ValueError, match=f'config field data.{field} must be '):
        training_source(config)
    assert not list(tmp_path.iterdir())


def test_a_split_without_annotations_is_known_beforehand(tmp_path):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'panoptic_val2017.json').write_text('{}')
    config = coco_r50.get_config()
    config.data.source = str(tmp_path)
    assert not has_annotations(config, 'val2017'), 'annotations alone are not enough'
    (tmp_path / 'val2017').mkdir()
    assert has_annotations(config, 'val2017') and not has_annotations(config, 'train2017')
    assert has_annotations(shapes.get_config(), 'train')


@pytest.mark.parametrize(
    ('flag', 'message'),
    [
        ('--config.optimizer.learning_rat=1', 'Did you mean "learning_rate"'),
        ('--config.train.steps=many', 'train.steps'),
    ],
)
def test_a_wrong_flag_ends_in_an_error_that_names_it(flag, message, tmp_path):
    command = [sys.executable, 'train.py', '--config=configs/shapes.py', f'--workdir={tmp_path / "run"}', flag]
    result = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert result.returncode != 0 and message in result.stderr
    assert not (tmp_path / 'run').exists()

"""Whole conversions: the checkpoint that is written, where it loads, and that errors leave nothing behind."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from sognet_jax.categories import CITYSCAPES, COCO
from sognet_jax.category_files import category_set
from sognet_jax.convert.conversion import convert, convert_file, recognise
from sognet_jax.convert.sources import ConversionError
from sognet_jax.convert.transfer import transfer_classes
from sognet_jax.models.sognet import build_network, initialize
from sognet_jax.predictor import restore_network
from sognet_jax.training.run import build_run
from tests.support.examples import tiny_config as group_norm_config
from tests.support.paths import ROOT
from tests.support.state_dicts import (
    published_arrays,
    template,
    tiny_cityscapes_config,
    tiny_config,
    torchvision_arrays,
    upsnet_arrays,
)

pytestmark = pytest.mark.compiles


@pytest.fixture(scope='module')
def config():
    return tiny_config()


@pytest.fixture(scope='module')
def published(config, tmp_path_factory):
    """A published checkpoint as a file, and the variables it stands for."""
    arrays = published_arrays(config)
    path = tmp_path_factory.mktemp('source') / 'sognet.npz'
    np.savez(path, **{f'module.{name}': array for name, array in arrays.items()})
    return path, convert(recognise(arrays), template(config))


@pytest.fixture(scope='module')
def cityscapes_config():
    return tiny_cityscapes_config()


def fresh(config, categories):
    return initialize(build_network(config.model, categories), config.seed)


def same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(actual), jax.device_get(expected))


def test_a_converted_checkpoint_loads_for_evaluation_prediction_and_training(config, published, tmp_path):
    path, expected = published
    report = convert_file(config, path, tmp_path / 'converted')
    assert report.splitlines() == [
        f'{path}: published, {len(jax.tree.leaves(expected))} arrays', f'wrote {tmp_path / "converted"}',
    ]  # fmt: skip
    _, variables = restore_network(config, category_set(config.categories), tmp_path / 'converted')
    same(variables, expected)
    config = config.copy_and_resolve_references()
    config.train.initialize_from = str(tmp_path / 'converted')
    state = build_run(config).state
    same({'params': state.params, 'batch_stats': state.batch_stats}, expected)
    assert int(state.step) == 0


def test_a_upsnet_gets_a_fresh_relation_head(config, published, tmp_path):
    safetensors.numpy.save_file(upsnet_arrays(config), tmp_path / 'upsnet.safetensors')
    report = convert_file(config, tmp_path / 'upsnet.safetensors', tmp_path / 'converted')
    assert 'upsnet.safetensors: upsnet, ' in report and 'fresh: relation_head\n' in report
    _, variables = restore_network(config, category_set(config.categories), tmp_path / 'converted')
    expected = published[1] | {'params': dict(published[1]['params'])}
    expected['params']['relation_head'] = fresh(config, COCO)['params']['relation_head']
    same(variables, expected)


def test_an_imagenet_backbone_gets_fresh_heads_and_offsets(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.model.backbone.update(strided_conv='conv2', deformable_stages=('res3',))
    config.model.pixel_std = (58.395, 57.12, 57.375)
    arrays = torchvision_arrays(config)
    np.savez(tmp_path / 'resnet.npz', **arrays)
    report = convert_file(config, tmp_path / 'resnet.npz', tmp_path / 'converted')
    assert report.splitlines()[1] == (
        'fresh: box_head, fpn, mask_head, proposal_network, relation_head, resnet offsets, semantic_head'
    )
    assert 'note' not in report
    _, variables = restore_network(config, category_set(config.categories), tmp_path / 'converted')
    backbone = convert(recognise(arrays), template(config))
    expected = fresh(config, COCO)
    block = backbone['params']['resnet']['res3_0']['conv2']
    block['offset'] = expected['params']['resnet']['res3_0']['conv2']['offset']
    block = backbone['params']['resnet']['res3_1']['conv2']
    block['offset'] = expected['params']['resnet']['res3_1']['conv2']['offset']
    same(variables, {
        'params': expected['params'] | {'resnet': backbone['params']['resnet']},
        'batch_stats': backbone['batch_stats'],
    })  # fmt: skip


def test_a_network_trained_on_coco_becomes_one_for_cityscapes(published, cityscapes_config, tmp_path):
    path, trained = published
    report = convert_file(cityscapes_config, path, tmp_path / 'converted', source_categories='coco')
    assert (
        'classes of cityscapes that coco lacks, fresh: sidewalk, pole, traffic sign, vegetation, terrain, rider\n'
        in report
    )
    _, variables = restore_network(
        cityscapes_config, category_set(cityscapes_config.categories), tmp_path / 'converted'
    )
    expected, _ = transfer_classes(trained, fresh(cityscapes_config, CITYSCAPES), COCO, CITYSCAPES)
    same(variables, expected)


def test_the_order_of_colours_can_be_told(config, published, tmp_path):
    path, expected = published
    report = convert_file(config, path, tmp_path / 'converted', channels='rgb')
    # Networks that read RGB are of torchvision's kind; what else belongs to it cannot be seen in shapes.
    assert "note: model.backbone.strided_conv is 'conv1'; weights of this kind usually go with 'conv2'" in report
    assert 'note: model.pixel_std is (1.0, 1.0, 1.0); weights of this kind usually go with (58.395' in report
    _, variables = restore_network(config, category_set(config.categories), tmp_path / 'converted')
    kernels = (tree['params']['resnet']['conv1']['kernel'] for tree in (variables, expected))
    rgb, bgr = (np.asarray(kernel) for kernel in kernels)
    np.testing.assert_array_equal(rgb, bgr[:, :, ::-1])


def refused(message, *arguments, **options):
    with pytest.raises(ConversionError, match=message):
        convert_file(*arguments, **options)


def test_a_checkpoint_with_wrong_entries_is_refused_and_nothing_written(config, published, tmp_path):
    arrays = published_arrays(config)
    del arrays['fpn.fpn_gap.bias']
    arrays['rpn.cls_score.bias'] = np.zeros(4, np.float32)
    arrays['extra'] = np.zeros(2, np.float32)
    np.savez(tmp_path / 'x.npz', **arrays)
    refused(
        r'(?s)x.npz: 3 entries .*missing: fpn.fpn_gap.bias.*unexpected: extra.*wrong shape: rpn.cls_score.bias has'
        r' \(4,\), expected \(3,\)',
        config, tmp_path / 'x.npz', tmp_path / 'converted',
    )  # fmt: skip
    np.savez(tmp_path / 'unknown.npz', a=np.zeros(2))
    refused('unknown.npz: the entries are named neither', config, tmp_path / 'unknown.npz', tmp_path / 'converted')
    refused('no file', config, tmp_path / 'none.npz', tmp_path / 'converted')
    assert not (tmp_path / 'converted').exists()


def test_wrong_categories_are_refused(config, cityscapes_config, published, tmp_path):
    path, _ = published
    output = tmp_path / 'converted'
    refused(r'rcnn.cls_score.weight has \(81, 8\), expected \(9, 8\)', cityscapes_config, path, output)
    refused(
        r'rcnn.cls_score.weight has \(81, 8\), expected \(9, 8\)', config, path, output, source_categories='cityscapes'
    )
    refused("--source_categories must be one of .*'coco'.* not 'voc'", config, path, output, source_categories='voc')
    np.savez(tmp_path / 'resnet.npz', **torchvision_arrays(config))
    refused(
        'a torchvision checkpoint has no heads: leave --source_categories out',
        cityscapes_config, tmp_path / 'resnet.npz', output, source_categories='coco',
    )  # fmt: skip
    wrong = config.copy_and_resolve_references()
    wrong.categories = 'coc'
    refused("config field categories must be one of .* not 'coc'", wrong, path, output)
    assert not output.exists()


def test_networks_of_other_blocks_are_refused(published, tmp_path):
    refused("model.backbone.block must be 'bottleneck'", group_norm_config(), published[0], tmp_path / 'converted')
    config = group_norm_config()
    config.model.backbone.block = 'bottleneck'
    refused("model.backbone.norm must be 'frozen_batch'", config, published[0], tmp_path / 'converted')


def test_an_existing_output_is_refused_and_kept(config, published, tmp_path):
    (tmp_path / 'run' / 'checkpoints' / '100').mkdir(parents=True)
    (tmp_path / 'file').write_text('something')
    for name in ('run', 'run/checkpoints', 'file'):
        refused(f'{name} is there already', config, published[0], tmp_path / name)
    assert (tmp_path / 'file').read_text() == 'something' and os.listdir(tmp_path / 'run') == ['checkpoints']
    (tmp_path / 'empty').mkdir()
    convert_file(config, published[0], tmp_path / 'empty')
    refused('empty is there already', config, published[0], tmp_path / 'empty')


def flags(config):
    """The command line that makes `configs/coco_r50.py:published` this tiny network."""
    fields = {'backbone.stage_sizes': config.model.backbone.stage_sizes, 'backbone.width': 4}
    fields |= {
        f'{part}.features': config.model[part].features for part in ('pyramid', 'rpn', 'box', 'mask', 'semantic')
    }
    fields |= {'relation.rank': 8, 'relation.geometry_features': 8}
    return ['--config=configs/coco_r50.py:published', *(f'--config.model.{n}={v}' for n, v in fields.items())]


def test_the_program(config, published, tmp_path):
    command = [
        sys.executable,
        '-m',
        'sognet_jax.programs.convert',
        *flags(config),
        f'--output={tmp_path / "converted"}',
    ]

    def run(*arguments):
        return subprocess.run([*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)

    np.savez(tmp_path / 'broken.npz', **{'resnet_backbone.conv1.bn1.bias': np.zeros(3)})
    result = run(f'--source={tmp_path / "broken.npz"}')
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert 'missing: fpn.fpn_p2.weight' in result.stderr and result.stderr.endswith('\nNothing was written.\n')
    assert not (tmp_path / 'converted').exists()

    result = run(f'--source={published[0]}')
    assert result.returncode == 0 and 'convert: 100%' in result.stderr
    assert result.stdout.splitlines()[-1] == f'wrote {tmp_path / "converted"}'
    same(restore_network(config, category_set(config.categories), tmp_path / 'converted')[1], published[1])

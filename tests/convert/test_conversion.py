"""Which entry of a checkpoint becomes which array, and everything that can be wrong with one."""

import json
import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from sognet_jax.configs import coco_r50, coco_r101_dcn
from sognet_jax.convert.conversion import convert, find_problems, missing_modules, recognise
from sognet_jax.convert.sources import ConversionError
from tests.support import golden_files, published
from tests.support.state_dicts import (
    published_arrays,
    template,
    tiny_cityscapes_config,
    tiny_config,
    torchvision_arrays,
    upsnet_arrays,
)

pytestmark = pytest.mark.compiles

has_weights = pytest.mark.skipif(
    not (golden_files.folder() / 'weights_fingerprint.json').exists(), reason='no weights_fingerprint.json'
)
has_keys = pytest.mark.skipif(
    not (golden_files.folder() / 'state_dict_keys_r101_dcn.json').exists(), reason='no state_dict_keys*.json'
)

# What a checkpoint holds besides the weights that are used.
COUNTER = re.compile(r'.*\.num_batches_tracked')


def coco_r101():
    config = coco_r101_dcn.get_config('published')
    config.model.backbone.deformable_stages = ()
    return config


def leaves(variables):
    return traverse_util.flatten_dict(variables, sep='/')


@has_weights
def test_weights_by_rule_are_the_stored_ones():
    with open(golden_files.folder() / 'weights_fingerprint.json') as file:
        fingerprints = json.load(file)
    arrays = published.state_dict()
    assert arrays.keys() == fingerprints.keys()
    for name, array in arrays.items():
        flat = array.astype(np.float64).ravel()
        actual = [flat.sum(), np.square(flat).sum(), *flat[:3]]
        expected = fingerprints[name]
        np.testing.assert_allclose(actual[:2], expected[:2], rtol=1e-5, atol=1e-5, err_msg=name)


@has_keys
@pytest.mark.parametrize(
    ('model', 'config', 'count'),
    [
        ('', coco_r50.get_config('published'), 380),
        ('_r101', coco_r101(), 686),
        ('_r101_dcn', coco_r101_dcn.get_config('published'), 746),
    ],
    ids=['r50', 'r101', 'r101_dcn'],
)
def test_every_published_entry_has_its_place(model, config, count):
    # Shapes alone: every array is one zero, seen many times.
    arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in published.keys(model)}
    assert len(arrays) == count
    shapes = template(config)
    source = recognise(arrays)
    assert source.kind == 'published' and find_problems(source, shapes) == []
    # One to one: what is no counter is one array of ours, and none is left over.
    used = [name for name in arrays if not COUNTER.fullmatch(name)]
    assert len(used) == len(leaves(shapes))

    for name in used:
        del (less := dict(arrays))[name]
        assert find_problems(recognise(less), shapes) == [f'missing: {name}']


@has_keys
def test_tiny_networks_have_the_names_of_the_published_one():
    names = dict(published.keys())
    assert published_arrays(tiny_config()).keys() <= names.keys()


def test_counters_and_the_prefix_of_data_parallel_training_make_no_difference():
    config = tiny_config()
    arrays = published_arrays(config)
    expected = convert(recognise(arrays), template(config))
    older = {name: array for name, array in arrays.items() if not COUNTER.fullmatch(name)}
    assert len(older) < len(arrays)
    jax.tree.map(np.testing.assert_array_equal, convert(recognise(older), template(config)), expected)
    assert all(array.dtype == np.float32 for array in jax.tree.leaves(expected))


def test_half_precision_becomes_single_precision():
    config = tiny_config()
    arrays = {name: array.astype(np.float16) for name, array in published_arrays(config).items()}
    converted = convert(recognise(arrays), template(config))
    assert all(array.dtype == np.float32 for array in jax.tree.leaves(converted))


def test_a_upsnet_leaves_the_relation_head_to_be_made():
    config = tiny_config()
    shapes = template(config)
    source = recognise(upsnet_arrays(config))
    variables = convert(source, shapes)
    assert source.kind == 'upsnet' and missing_modules(variables, shapes) == ['relation_head']
    expected = leaves(convert(recognise(published_arrays(config)), shapes))
    for name, array in leaves(variables).items():
        np.testing.assert_array_equal(array, expected[name])
    # The heads of the paper's relation form fit it too: nothing of them comes from the file.
    config.model.relation.update(form='paper', appearance=True)
    assert find_problems(source, template(config)) == []


def test_an_imagenet_network_gives_the_backbone_alone():
    config = tiny_config()
    variables = convert(recognise(torchvision_arrays(config)), template(config))
    assert {name.split('/')[1] for name in leaves(variables)} == {'resnet'}
    assert missing_modules(variables, template(config)) == [
        'box_head', 'fpn', 'mask_head', 'proposal_network', 'relation_head', 'semantic_head',
    ]  # fmt: skip
    config.model.backbone.deformable_stages = ('res3', 'res5')
    variables = convert(recognise(torchvision_arrays(config)), template(config))
    assert variables['params']['resnet']['res3_0']['conv2'].keys() == {'kernel'}
    assert 'resnet offsets' in missing_modules(variables, template(config))


def test_the_backbones_of_the_published_code_have_torchvision_s_names():
    config = tiny_config()
    arrays = torchvision_arrays(config)
    renamed = {}
    for name, array in arrays.items():
        if name.startswith('fc.'):
            continue
        stage = re.fullmatch(r'layer(\d)\.(.*)', name)
        ours = f'res{int(stage[1]) + 1}.layers.{stage[2]}' if stage else f'conv1.{name}'
        renamed[f'resnet_backbone.{ours}'] = array
    whole = {name: array for name, array in published_arrays(config).items() if not name.startswith('resnet_backbone')}
    expected = convert(recognise(whole | renamed), template(config))
    source = recognise(arrays)
    assert not source.reads_bgr
    actual = convert(source._replace(reads_bgr=True), template(config))
    jax.tree.map(np.testing.assert_array_equal, actual['batch_stats'], expected['batch_stats'])
    jax.tree.map(np.testing.assert_array_equal, actual['params']['resnet'], expected['params']['resnet'])


def test_the_order_of_colours_turns_round_the_first_convolution_alone():
    config = tiny_config()
    source = recognise(published_arrays(config))
    assert source.reads_bgr
    bgr = leaves(convert(source, template(config)))
    rgb = leaves(convert(source._replace(reads_bgr=False), template(config)))
    for name in bgr:
        turned = rgb[name][:, :, ::-1] if name == 'params/resnet/conv1/kernel' else rgb[name]
        np.testing.assert_array_equal(bgr[name], turned)
    theirs = source.arrays['resnet_backbone.conv1.conv1.weight']
    np.testing.assert_array_equal(rgb['params/resnet/conv1/kernel'][2, 5, 0], theirs[:, 0, 2, 5])
    np.testing.assert_array_equal(bgr['params/resnet/conv1/kernel'][2, 5, 0], theirs[:, 2, 2, 5])


def test_all_problems_are_listed_by_name():
    config = tiny_config()
    arrays = published_arrays(config)
    del arrays['fpn.fpn_gap.bias'], arrays['resnet_backbone.res3.layers.1.bn2.running_var']
    arrays['rpn.cls_score.weight'] = np.zeros((5, 8, 1, 1))
    arrays['rcnn.fc7.0.weight'] = np.zeros((8, 8, 1, 1))
    arrays['rcnn.fc8.0.weight'] = np.zeros((8, 8))
    with pytest.raises(ConversionError, match='5 entries of this published checkpoint do not fit') as error:
        convert(recognise(arrays), template(config))
    assert str(error.value).splitlines()[1:] == [
        '  missing: fpn.fpn_gap.bias',
        '  missing: resnet_backbone.res3.layers.1.bn2.running_var',
        '  unexpected: rcnn.fc8.0.weight',
        '  wrong shape: rcnn.fc7.0.weight has (8, 8, 1, 1), expected (8, 8)',
        '  wrong shape: rpn.cls_score.weight has (5, 8, 1, 1), expected (3, 8, 1, 1)',
    ]


def test_a_network_that_differs_from_the_checkpoint_is_told_by_its_entries():
    arrays = published_arrays(tiny_config())
    config = tiny_config()
    config.model.pyramid.global_average = False
    config.model.backbone.deformable_stages = ('res5',)
    config.model.relation.update(form='paper')
    problems = find_problems(recognise(arrays), template(config))
    assert 'unexpected: fpn.fpn_gap.weight' in problems
    assert 'missing: resnet_backbone.res5.layers.0.conv2_offset.weight' in problems
    path = 'relation_head/category_embedding/P/kernel'
    assert f'missing: {path} of the network, which no published checkpoint has' in problems
    # Another number of classes.
    problems = find_problems(recognise(arrays), template(tiny_cityscapes_config()))
    assert 'wrong shape: rcnn.bbox_pred.weight has (324, 8), expected (36, 8)' in problems


def test_a_torchvision_network_of_other_blocks_is_refused():
    config = tiny_config()
    arrays = {name: array for name, array in torchvision_arrays(config).items() if '.conv3.' not in name}
    arrays['layer5.0.conv1.weight'] = np.zeros((4, 4, 1, 1))
    problems = find_problems(recognise(arrays), template(config))
    assert 'missing: layer1.0.conv3.weight' in problems and 'unexpected: layer5.0.conv1.weight' in problems


def test_names_of_no_known_kind_are_refused():
    with pytest.raises(ConversionError, match=r'neither as in the published SOGNet .* \(layer1\.0\.\.\.\).*encoder'):
        recognise({'encoder.weight': np.zeros(3), 'decoder.weight': np.zeros(3)})

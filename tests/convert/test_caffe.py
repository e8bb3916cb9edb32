"""A network in Caffe's or Detectron's names becomes the same variables as in torchvision's."""

import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from sognet_jax.convert.caffe import caffe_entries, detectron_entry
from sognet_jax.convert.conversion import convert, find_problems, recognise
from tests.support.state_dicts import template, tiny_config, torchvision_arrays

BRANCH = {'conv1': '2a', 'conv2': '2b', 'conv3': '2c', 'bn1': '2a', 'bn2': '2b', 'bn3': '2c', 'downsample': '1'}


@pytest.fixture(scope='module')
def config():
    """Stages of 2, 3, 1 and 2 blocks, so that some have more blocks than one."""
    config = tiny_config()
    config.model.backbone.stage_sizes = (2, 3, 1, 2)
    return config


@pytest.fixture(scope='module')
def shapes(config):
    return template(config)


@pytest.fixture(scope='module')
def arrays(config):
    return torchvision_arrays(config)


def parts(name):
    """`layer2.1.bn3.bias` -> ('3', 1, '2c', True, 'bias'); of the stem, stage and index are None."""
    match = re.fullmatch(r'(?:layer(\d)\.(\d+)\.)?(conv\d|bn\d|downsample)\.?(\d?)\.(\w+)', name)
    stage, index, module, which, array = match.groups()
    is_norm = module.startswith('bn') or which == '1'
    return stage and str(int(stage) + 1), index and int(index), BRANCH[module], is_norm, array


def caffe_name(name, numbered):
    """What Caffe calls torchvision's entry; `numbered`: stages whose blocks are a, b1, b2, ..."""
    if name.startswith('fc.'):
        return name.replace('fc', 'fc1000')
    stage, index, branch, is_norm, array = parts(name)
    layer = 'res' if not is_norm else 'bn' if array.startswith('running_') else 'scale'
    if stage is None:
        return f'{layer}_conv1.{array}' if is_norm else f'conv1.{array}'
    block = 'abcdefgh'[index] if stage not in numbered or index == 0 else f'b{index}'
    return f'{layer}{stage}{block}_branch{branch}.{array}'


def in_detectron(arrays):
    """Detectron's blobs: normalisation as the scale and bias that are left of it."""
    blobs = {'conv1_b': np.ones(4, np.float32)}
    for name, array in arrays.items():
        if name.startswith('fc.'):
            blobs[f'fc1000_{"w" if name == "fc.weight" else "b"}'] = array
            continue
        stage, index, branch, is_norm, kind = parts(name)
        place = 'conv1' if stage is None else f'res{stage}_{index}_branch{branch}'
        if not is_norm:
            blobs[f'{place}_w'] = array
        elif kind == 'weight':
            prefix = name.removesuffix('weight')
            factor = array / np.sqrt(arrays[prefix + 'running_var'] + 1e-5)
            place = 'res_conv1' if stage is None else place
            blobs[f'{place}_bn_s'] = factor
            blobs[f'{place}_bn_b'] = arrays[prefix + 'bias'] - arrays[prefix + 'running_mean'] * factor
    return blobs


def converted(arrays, shapes, kind, reads_bgr=True):
    source = recognise(arrays)
    assert source.kind == kind
    return convert(source._replace(reads_bgr=reads_bgr), shapes)


@pytest.mark.parametrize('numbered', [(), '3', '34'], ids=['letters', 'numbers_in_res3', 'numbers_in_res3_res4'])
@pytest.mark.parametrize('reads_bgr', [True, False])
def test_caffe_s_names(arrays, shapes, numbered, reads_bgr):
    renamed = {caffe_name(name, numbered): array for name, array in arrays.items()}
    assert len(renamed) == len(arrays) and recognise(renamed).reads_bgr
    expected = converted(arrays, shapes, 'torchvision', reads_bgr)
    jax.tree.map(np.testing.assert_array_equal, converted(renamed, shapes, 'caffe', reads_bgr), expected)


@pytest.mark.parametrize(
    ('path', 'name'),
    [
        (('conv1', 'kernel'), 'conv1.weight'),
        (('norm1', 'mean'), 'bn_conv1.running_mean'),
        (('norm1', 'scale'), 'scale_conv1.weight'),
        (('res2_0', 'downsample', 'kernel'), 'res2a_branch1.weight'),
        (('res2_0', 'downsample_norm', 'bias'), 'scale2a_branch1.bias'),
        (('res2_2', 'conv2', 'kernel'), 'res2c_branch2b.weight'),
        (('res3_0', 'norm1', 'var'), 'bn3a_branch2a.running_var'),
        (('res3_3', 'conv1', 'kernel'), 'res3b3_branch2a.weight'),
        (('res4_22', 'norm3', 'scale'), 'scale4b22_branch2c.weight'),
        (('res5_2', 'norm3', 'mean'), 'bn5c_branch2c.running_mean'),
    ],
)
def test_names_of_caffe_s_resnet_101(path, name):
    entry = caffe_entries(['res2b_branch2a.weight', 'res3b1_branch2a.weight', 'res4b1_branch2a.weight'])
    assert entry(('resnet', *path)).name == name


@pytest.mark.parametrize(
    ('path', 'name'),
    [
        (('conv1', 'kernel'), 'conv1_w'),
        (('norm1', 'scale'), 'res_conv1_bn_s'),
        (('norm1', 'bias'), 'res_conv1_bn_b'),
        (('res2_0', 'downsample', 'kernel'), 'res2_0_branch1_w'),
        (('res2_0', 'downsample_norm', 'scale'), 'res2_0_branch1_bn_s'),
        (('res4_22', 'conv2', 'kernel'), 'res4_22_branch2b_w'),
        (('res4_22', 'norm3', 'bias'), 'res4_22_branch2c_bn_b'),
    ],
)
def test_names_of_detectron(path, name):
    assert detectron_entry(('resnet', *path)).name == name


def test_the_bias_of_caffe_s_first_convolution_goes_into_the_mean(arrays, shapes):
    renamed = {caffe_name(name, ()): array for name, array in arrays.items()}
    without_bias = converted(renamed, shapes, 'caffe')
    bias = np.float32([1, -2, 3, 0.5])
    variables = converted(renamed | {'conv1.bias': bias}, shapes, 'caffe')
    norm, expected = (tree['batch_stats']['resnet'].pop('norm1') for tree in (variables, without_bias))
    np.testing.assert_array_equal(norm['mean'], expected['mean'] - bias)
    jax.tree.map(np.testing.assert_array_equal, variables, without_bias)
    # norm(convolution + bias), as in Caffe, is what the new mean makes of the convolution.
    x = np.float32([[0.3, 4, -1, 2]])
    theirs = (x + bias - expected['mean']) / np.sqrt(expected['var'] + 1e-5)
    np.testing.assert_allclose((x - norm['mean']) / np.sqrt(norm['var'] + 1e-5), theirs, rtol=1e-5)

    assert find_problems(recognise(renamed | {'conv1.bias': np.zeros(5)}), shapes) == ['unexpected: conv1.bias']


@pytest.mark.parametrize('reads_bgr', [True, False])
def test_detectron_s_names(arrays, shapes, reads_bgr):
    blobs = in_detectron(arrays)
    assert recognise(blobs).reads_bgr
    expected = converted(arrays, shapes, 'torchvision', reads_bgr)
    variables = converted(blobs, shapes, 'detectron', reads_bgr)
    jax.tree.map(np.testing.assert_array_equal, variables['params'], expected['params'])
    for ours, theirs in zip(norms(variables), norms(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def norms(variables):
    """Factor and shift of every normalisation: what Detectron keeps of it."""
    flat = traverse_util.flatten_dict(variables['batch_stats']['resnet'])
    for path in sorted(flat):
        if path[-1] == 'scale':
            scale, bias, mean, var = (flat[*path[:-1], name] for name in ('scale', 'bias', 'mean', 'var'))
            factor = scale / np.sqrt(var + np.float32(1e-5))
            yield from (factor, bias - mean * factor)


def test_problems_are_listed_in_the_names_of_the_file(arrays, shapes):
    renamed = {caffe_name(name, '3'): array for name, array in arrays.items()}
    del renamed['res3b2_branch2b.weight'], renamed['bn_conv1.running_var']
    renamed['scale4a_branch1.bias'] = np.zeros(3)
    renamed['res3b3_branch2a.weight'] = np.zeros((8, 32, 1, 1))
    assert find_problems(recognise(renamed), shapes) == [
        'missing: bn_conv1.running_var',
        'missing: res3b2_branch2b.weight',
        'unexpected: res3b3_branch2a.weight',
        'wrong shape: scale4a_branch1.bias has (3,), expected (64,)',
    ]
    blobs = in_detectron(arrays)
    del blobs['res3_2_branch2b_w'], blobs['res_conv1_bn_s']
    blobs['res4_0_branch1_bn_s'] = np.zeros(3)
    blobs['res3_3_branch2a_w'] = np.zeros((8, 32, 1, 1))
    assert find_problems(recognise(blobs), shapes) == [
        'missing: res3_2_branch2b_w',
        'missing: res_conv1_bn_s',
        'unexpected: res3_3_branch2a_w',
        'wrong shape: res4_0_branch1_bn_s has (3,), expected (64,)',
    ]

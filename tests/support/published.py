"""The published network with weights by rule: no download needed."""

import functools
import json
import zlib

import numpy as np
import pytest

from sognet_jax.categories import COCO
from sognet_jax.configs import coco_r50
from sognet_jax.convert.conversion import convert, recognise
from sognet_jax.models.sognet import build_network, variable_shapes
from tests.support import golden_files

needs_weights = pytest.mark.skipif(
    not (golden_files.folder() / 'weights_bn_override.npz').exists(), reason='no weights_bn_override.npz'
)

_GAINS = {
    'resnet_backbone.conv1.conv1.weight': 1 / 64,
    'rpn.cls_score.weight': 0.5,
    'rpn.bbox_pred.weight': 0.1,
    'rcnn.cls_score.weight': 0.36,
    'rcnn.bbox_pred.weight': 0.6,
    'fcn_head.score.weight': 0.1,
    'relation_head.P.0.weight': 1.5,
}


def normal(name, shape):
    """Standard normal float64 numbers that depend on a name alone."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)


def network_input(name, shape):
    """A stored test's input in PyTorch's layout."""
    return normal(f'input:{name}', shape).astype(np.float32)


def is_norm(key):
    """Whether an entry belongs to a batch normalisation."""
    module = key.rsplit('.', 1)[0]
    return module.endswith(('bn1', 'bn2', 'bn3', 'downsample.1'))


def weight(key, shape, offset_gain=0.25):
    """One array of the state dict, before running statistics are replaced."""
    z = normal(key, tuple(shape))
    if key.endswith('num_batches_tracked'):
        value = np.zeros(shape)
    elif is_norm(key) and key.endswith('.weight'):
        value = (1 + 0.1 * z) * (0.4 if '.bn3.' in key else 1)
    elif is_norm(key) and key.endswith('.bias'):
        value = 0.05 * z
    elif key.endswith('.bias'):
        value = 0.01 * z
    elif key in ('relation_head.U.0.weight', 'relation_head.V.0.weight'):
        value = z
    else:
        fan = shape[0] if 'mask_deconv1' in key else np.prod(shape[1:])
        gain = offset_gain if 'conv_offset' in key else _GAINS.get(key, 1)
        value = gain * np.sqrt(2 / fan) * z
    return np.asarray(value).astype(np.float32)


def keys(model=''):
    """`[name, shape]` of the published state dict; `model` is '', '_r101' or '_r101_dcn'."""
    with open(golden_files.folder() / f'state_dict_keys{model}.json') as file:
        return [(name, tuple(shape)) for name, shape, _ in json.load(file)['keys']]


@functools.cache
def state_dict():
    """All 380 entries of the published ResNet-50 network."""
    running = golden_files.load(golden_files.folder() / 'weights_bn_override.npz')
    return {name: running[name] if name in running else weight(name, shape) for name, shape in keys()}


@functools.cache
def network():
    """The network of `configs/coco_r50.py:published`."""
    return build_network(coco_r50.get_config('published').model, COCO)


@functools.cache
def variables():
    """Its variables, converted from `state_dict`."""
    return convert(recognise(state_dict()), variable_shapes(network()))


def statistics(x):
    """Mean, standard deviation and sum of magnitudes of a feature map, as they are stored."""
    x = np.asarray(x, np.float64)
    return [x.mean(), x.std(ddof=1), np.abs(x).sum()]

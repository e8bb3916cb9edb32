"""ImageNet ResNets in Caffe's and in Detectron's names, renamed to torchvision's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_BRANCH = {'1': ('downsample.0', 'downsample.1'), **{f'2{c}': (f'conv{i}', f'bn{i}') for i, c in enumerate('abc', 1)}}

_CAFFE = re.compile(
    r'(?P<layer>res|bn|scale)(?P<stage>\d)(?P<letter>[a-z])(?P<number>\d*)_branch(?P<branch>1|2[abc])\.(?P<array>\w+)'
)
_CAFFE_STEM = re.compile(r'(?:bn_|scale_)?conv1\.\w+')
_DETECTRON = re.compile(r'res(?P<stage>\d)_(?P<index>\d+)_branch(?P<branch>1|2[abc])_(?P<array>w|bn_s|bn_b)')
_DETECTRON_STEM = {'conv1_w': 'conv1.weight', 'res_conv1_bn_s': 'bn1.weight', 'res_conv1_bn_b': 'bn1.bias'}

NORM_EPSILON = 1e-5


def is_caffe(names: list[str]) -> bool:
    """Whether these are Caffe's names: `res2a_branch2a.weight`, `bn2a_branch2a.running_mean`, ..."""
    return any(_CAFFE.fullmatch(name) for name in names)


def is_detectron(names: list[str]) -> bool:
    """Whether these are Detectron's names: `res2_0_branch2a_w`, `res2_0_branch2a_bn_s`, ..."""
    return any(_DETECTRON.fullmatch(name) for name in names)


def from_caffe(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Caffe's ResNet-50 / 101 in torchvision's names; names that are none of its own stay.

    The blocks of a stage are a, b, c, ... or a, b1, b2, .... `bn` layers hold `running_mean` and `running_var` (already
    divided by Caffe's scale factor), `scale` layers `weight` and `bias`. The bias that ResNet-50 has behind its first
    convolution goes into the mean that is subtracted next.
    """
    renamed = {_from_caffe_name(name): array for name, array in arrays.items()}
    if 'conv1.bias' in renamed and 'bn1.running_mean' in renamed:
        renamed['bn1.running_mean'] = renamed['bn1.running_mean'] - renamed.pop('conv1.bias')
    return renamed


def from_detectron(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Detectron's ResNet-50 / 101 in torchvision's names; the statistics, merged into the scales there, are added."""
    renamed = {}
    for name, array in arrays.items():
        new = _from_detectron_name(name)
        renamed[new] = array
        if new.endswith('.weight') and array.ndim == 1:
            norm = new.removesuffix('.weight')
            renamed[f'{norm}.running_mean'] = np.zeros_like(array)
            renamed[f'{norm}.running_var'] = np.full_like(array, 1 - NORM_EPSILON)
    return renamed


def _from_caffe_name(name: str) -> str:
    if _CAFFE_STEM.fullmatch(name):
        return re.sub(r'(bn_|scale_)conv1', 'bn1', name)
    match = _CAFFE.fullmatch(name)
    if match is None:
        return name
    index = int(match['number'] or ord(match['letter']) - ord('a'))
    convolution, norm = _BRANCH[match['branch']]
    module = convolution if match['layer'] == 'res' else norm
    return f'layer{int(match["stage"]) - 1}.{index}.{module}.{match["array"]}'


def _from_detectron_name(name: str) -> str:
    match = _DETECTRON.fullmatch(name)
    if match is None:
        return _DETECTRON_STEM.get(name, name)
    convolution, norm = _BRANCH[match['branch']]
    module = {'w': f'{convolution}.weight', 'bn_s': f'{norm}.weight', 'bn_b': f'{norm}.bias'}[match['array']]
    return f'layer{int(match["stage"]) - 1}.{match["index"]}.{module}'

"""ImageNet ResNets in Caffe's and in Detectron's names."""

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sognet_jax.convert import layouts
from sognet_jax.convert.layouts import Layout
from sognet_jax.convert.names import NORM, Entry, Path, torchvision_entry

NORM_EPSILON = 1e-5
"""What is added to a variance: by Caffe and by our `FrozenBatchNorm`."""

CAFFE = re.compile(r'res(?P<stage>\d)[a-z](?P<number>\d*)_branch(?:1|2[abc])\.\w+')
"""Caffe's names: `res2a_branch2a.weight`, `bn2a_branch2a.running_mean`, ..."""

DETECTRON = re.compile(r'res\d_\d+_branch(?:1|2[abc])_\w+')
"""Detectron's names: `res2_0_branch2a_w`, `res2_0_branch2a_bn_s`, ..."""

_BRANCHES = {
    **{f'{kind}{i}': f'branch2{letter}' for kind in ('conv', 'norm') for i, letter in enumerate('abc', 1)},
    'downsample': 'branch1',
    'downsample_norm': 'branch1',
}

# Detectron merges the statistics into scale and bias: the mean is 0 and the variance, with epsilon, 1.
_DETECTRON_NORM: Mapping[str, tuple[str, Layout]] = {
    'scale': ('s', layouts.VECTOR),
    'bias': ('b', layouts.VECTOR),
    'mean': ('s', Layout(lambda shape: shape, np.zeros_like)),
    'var': ('s', Layout(lambda shape: shape, lambda array: np.full_like(array, 1 - NORM_EPSILON))),
}


def caffe_entries(names: Iterable[str]) -> Callable[[Path], Entry]:
    """Caffe's names of ResNet-50 / 101: `res`, `bn` and `scale` layers.

    `bn` layers hold `running_mean` and `running_var` (already divided by Caffe's scale factor), `scale` layers `weight`
    and `bias`. The names of a checkpoint tell how the blocks of a stage are called: a, b, c, ... or a, b1, b2, ....
    """
    matches = [CAFFE.fullmatch(name) for name in names]
    numbered = {match['stage'] for match in matches if match and match['number']}

    def entry(path: Path) -> Entry:
        *block, module, parameter = path[1:]
        place = '_conv1' if 'norm' in module else 'conv1'
        if block:
            stage, index = block[0].removeprefix('res').split('_')
            letter = f'b{index}' if stage in numbered and index != '0' else chr(ord('a') + int(index))
            place = f'{stage}{letter}_{_BRANCHES[module]}'
        if 'norm' in module:
            layer = 'bn' if parameter in ('mean', 'var') else 'scale'
            return Entry(f'{layer}{place}.{NORM[parameter]}', layouts.VECTOR)
        return torchvision_entry(path)._replace(name=f'{"res" if block else ""}{place}.weight')

    return entry


def fold_first_bias(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes the bias that Caffe's ResNet-50 has behind its first convolution from the mean that is subtracted next."""
    folded = dict(arrays)
    mean, bias = folded.get('bn_conv1.running_mean'), folded.get('conv1.bias')
    if mean is not None and bias is not None and mean.shape == bias.shape:
        folded['bn_conv1.running_mean'] = mean - folded.pop('conv1.bias')
    return folded


def detectron_entry(path: Path) -> Entry:
    """Detectron's names of ResNet-50 / 101, where normalisation is a scale `_bn_s` and a bias `_bn_b`."""
    *block, module, parameter = path[1:]
    if 'norm' not in module:
        name = f'{block[0]}_{_BRANCHES[module]}_w' if block else 'conv1_w'
        return torchvision_entry(path)._replace(name=name)
    letter, layout = _DETECTRON_NORM[parameter]
    return Entry(f'{block[0]}_{_BRANCHES[module]}_bn_{letter}' if block else f'res_conv1_bn_{letter}', layout)

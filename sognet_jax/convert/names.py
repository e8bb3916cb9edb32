"""What the published code and torchvision call the arrays of this network.

A path is that of one of our arrays, for example `('resnet', 'res2_0', 'conv1', 'kernel')`.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sognet_jax.convert import layouts
from sognet_jax.convert.layouts import Layout

Path = tuple[str, ...]


class Entry(NamedTuple):
    """An array of a source: its name, and how it lies there."""

    name: str
    layout: Layout


NORM = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}

_PUBLISHED_MODULES: Mapping[Path, tuple[str, Layout]] = {
    **{('fpn', f'lateral{n}'): (f'fpn.fpn_p{n}_1x1', layouts.POINTWISE) for n in range(2, 6)},
    **{('fpn', f'output{n}'): (f'fpn.fpn_p{n}', layouts.CONVOLUTION) for n in range(2, 6)},
    ('fpn', 'global_average'): ('fpn.fpn_gap', layouts.LINEAR),
    ('proposal_network', 'conv'): ('rpn.conv_proposal.0', layouts.CONVOLUTION),
    ('proposal_network', 'score'): ('rpn.cls_score', layouts.POINTWISE),
    ('proposal_network', 'box'): ('rpn.bbox_pred', layouts.POINTWISE),
    ('box_head', 'fc6'): ('rcnn.fc6.0', layouts.FLATTENED),
    ('box_head', 'fc7'): ('rcnn.fc7.0', layouts.LINEAR),
    ('box_head', 'score'): ('rcnn.cls_score', layouts.LINEAR),
    ('box_head', 'box'): ('rcnn.bbox_pred', layouts.BOXES),
    **{('mask_head', f'conv{n}'): (f'mask_branch.mask_conv{n}.0', layouts.CONVOLUTION) for n in range(1, 5)},
    ('mask_head', 'deconv'): ('mask_branch.mask_deconv1.0', layouts.TRANSPOSED_CONVOLUTION),
    ('mask_head',): ('mask_branch.mask_score', layouts.MASKS),
    **{
        ('semantic_head', f'conv{n}', *ours): (f'fcn_head.fcn_subnet.conv.{n - 1}.0.{theirs}', layouts.CONVOLUTION)
        for n in range(1, 4)
        for ours, theirs in (((), 'conv'), (('offset',), 'conv_offset'))
    },
    ('semantic_head',): ('fcn_head.score', layouts.LEVELS),
    ('relation_head', 'category_embedding', 'U'): ('relation_head.U.0', layouts.LINEAR),
    ('relation_head', 'category_embedding', 'V'): ('relation_head.V.0', layouts.LINEAR),
    ('relation_head', 'K'): ('relation_head.W.0', layouts.POINTWISE),
    ('relation_head', 'fc'): ('relation_head.P.0', layouts.POINTWISE),
}

_BIAS_LAYOUTS = {layouts.BOXES: layouts.BOXES_BIAS, layouts.MASKS: layouts.MASKS_BIAS}


def published_entry(path: Path) -> Entry | None:
    """Names of the published SOGNet, and of UPSNet, whose code it builds on."""
    *module, parameter = path
    if module[0] == 'resnet':
        entry = torchvision_entry(path)
        stem = len(module) == 2
        name = re.sub(r'layer(\d)\.', lambda match: f'res{int(match[1]) + 1}.layers.', entry.name)
        return Entry('resnet_backbone.' + ('conv1.' if stem else '') + name, entry.layout)
    if tuple(module) not in _PUBLISHED_MODULES:
        return None
    name, layout = _PUBLISHED_MODULES[tuple(module)]
    if parameter == 'kernel':
        return Entry(f'{name}.weight', layout)
    return Entry(f'{name}.bias', _BIAS_LAYOUTS.get(layout, layouts.VECTOR))


def torchvision_entry(path: Path) -> Entry:
    """Names of torchvision's ResNets, with `conv2_offset` for the offsets of deformable convolutions."""
    *module, parameter = path[1:]
    prefix = ''
    if module[0].startswith('res'):
        stage, index = module.pop(0).removeprefix('res').split('_')
        prefix = f'layer{int(stage) - 1}.{index}.'
    name = {'downsample': 'downsample.0', 'downsample_norm': 'downsample.1'}.get(module[0], module[0])
    name = re.sub(r'^norm(\d)$', r'bn\1', name)
    if 'norm' in module[0]:
        return Entry(f'{prefix}{name}.{NORM[parameter]}', layouts.VECTOR)
    if module[1:] == ['offset']:
        name += '_offset'
    if parameter == 'bias':
        return Entry(f'{prefix}{name}.bias', layouts.VECTOR)
    is_pointwise = prefix and module[0] in ('conv1', 'conv3', 'downsample')
    return Entry(f'{prefix}{name}.weight', layouts.POINTWISE if is_pointwise else layouts.CONVOLUTION)

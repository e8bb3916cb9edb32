"""A network of the published kind with few channels, and made-up checkpoints for it."""

import functools

import ml_collections
import numpy as np
from flax import traverse_util

from sognet_jax.categories import CATEGORY_SETS
from sognet_jax.configs import cityscapes_r50, coco_r50
from sognet_jax.convert.names import published_entry, torchvision_entry
from sognet_jax.models.sognet import build_network, variable_shapes


def tiny_config(module=coco_r50, variant='published'):
    """Bottleneck blocks with frozen batch normalisation, as in every checkpoint that can be converted."""
    config = module.get_config(variant)
    config.model.backbone.stage_sizes = (1, 2, 1, 1)
    config.model.backbone.width = 4
    config.model.pyramid.features = 8
    config.model.rpn.features = 8
    config.model.box.features = 8
    config.model.mask.features = 8
    config.model.semantic.features = (8, 8, 8)
    config.model.relation.rank = 8
    config.model.relation.geometry_features = 8
    return config


def tiny_cityscapes_config():
    """The network with Cityscapes' classes that the weights of `tiny_config` are for."""
    return tiny_config(cityscapes_r50, 'from_coco')


def template(config, categories=None):
    """Shapes of the variables of a config's network."""
    return _template(ml_collections.FrozenConfigDict(config.model), categories or config.categories)


@functools.cache
def _template(model, categories):
    return variable_shapes(build_network(model, CATEGORY_SETS[categories]))


def published_arrays(config, categories=None):
    """A random state dict of the published SOGNet, in the order and with the counters that PyTorch has."""
    arrays = _arrays(published_entry, template(config, categories))
    counters = [name.replace('running_var', 'num_batches_tracked') for name in arrays if name.endswith('running_var')]
    return arrays | {name: np.array(0) for name in counters}


def upsnet_arrays(config):
    """The same of UPSNet: without a relation head."""
    return {name: array for name, array in published_arrays(config).items() if not name.startswith('relation_head.')}


def torchvision_arrays(config):
    """A random state dict of torchvision's ResNet with the config's sizes and without deformable convolutions."""
    leaves = traverse_util.flatten_dict(template(config))
    backbone = {path: leaf for path, leaf in leaves.items() if path[1] == 'resnet' and 'offset' not in path}
    arrays = _arrays(torchvision_entry, traverse_util.unflatten_dict(backbone))
    return arrays | {'fc.weight': np.zeros((10, 128), np.float32), 'fc.bias': np.zeros(10, np.float32)}


def _arrays(entry, shapes):
    rng = np.random.default_rng(0)
    arrays = {}
    for path, leaf in traverse_util.flatten_dict(shapes).items():
        name, layout = entry(path[1:])
        array = rng.normal(size=layout.source_shape(leaf.shape)).astype(np.float32)
        arrays[name] = np.abs(array) + 0.5 if name.endswith('running_var') else array
    return arrays

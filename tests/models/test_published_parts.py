"""Each part of the network, with the published weights by rule, against the authors' code."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.convert.names import torchvision_entry
from sognet_jax.kernels.roi_align import pyramid_level, roi_align
from sognet_jax.models.resnet import BottleneckBlock
from sognet_jax.ops.resize import resize_bilinear
from tests.support import golden_files, published
from tests.support.golden_files import SHIFT, near, nhwc

CHANNELS = (256, 512, 1024, 2048)
STAGES = ('res2', 'res3', 'res4', 'res5')

pytestmark = [published.needs_weights, pytest.mark.compiles]


def run(function, *inputs):
    """`function(bound network, *inputs)`, compiled."""
    return jax.jit(nn.apply(function, published.network()))(published.variables(), *inputs)


def part_name(path):
    """The name that a file's inputs are made from: `tiny` of `net_fpn_tiny.npz`."""
    return path.stem.split('_')[-1]


def pyramid(name, height, width):
    """Random P2 .. P5, P5 of the given size."""
    levels = [(2, 8), (3, 4), (4, 2), (5, 1)]
    return [
        nhwc(published.network_input(f'{name}:p{level}', (1, 256, height * factor, width * factor)))
        for level, factor in levels
    ]


@golden_files.parametrize('net_resnet')
def test_backbone(golden_path):
    golden = golden_files.load(golden_path)
    image = nhwc(published.network_input(part_name(golden_path), golden['input_shape']) * 60)[..., ::-1]

    def backbone(network, x):
        return network.resnet(x)

    def keep(module, _):
        return module.name in ('conv1', 'norm1') and module.path == ('resnet', module.name)

    apply = nn.apply(backbone, published.network(), capture_intermediates=keep, mutable=['intermediates'])
    stages, state = jax.jit(apply)(published.variables(), image)
    inner = state['intermediates']['resnet']
    near(inner['conv1']['__call__'][0][..., :8], nhwc(golden['conv1_first8']))
    stem = nn.max_pool(nn.relu(inner['norm1']['__call__'][0]), (3, 3), (2, 2), ((1, 1), (1, 1)))
    near(stem[..., :8], nhwc(golden['maxpool_first8']))
    for stage, name, expected in zip(stages, STAGES, golden['stats'], strict=True):
        near(stage[..., ::4], nhwc(golden[f'{name}_stride4']))
        np.testing.assert_allclose(published.statistics(stage), expected, rtol=1e-4)


@golden_files.parametrize('net_bottleneck')
def test_first_block_of_a_stage(golden_path):
    golden = golden_files.load(golden_path)
    x = nhwc(published.network_input(f'{part_name(golden_path)}:block', golden['input_shape']))
    variables = {name: tree['resnet']['res3_0'] for name, tree in published.variables().items()}
    block = BottleneckBlock(128, 2, 'frozen_batch', jnp.float32)

    def keep(module, _):
        return module.name in ('conv1', 'downsample_norm')

    output, state = jax.jit(lambda v, x: block.apply(v, x, capture_intermediates=keep, mutable=['intermediates']))(
        variables, x
    )
    near(state['intermediates']['conv1']['__call__'][0], nhwc(golden['conv1']))
    near(state['intermediates']['downsample_norm']['__call__'][0], nhwc(golden['downsample']))
    near(output, nhwc(golden['output']))


@golden_files.parametrize('net_dcn_bottleneck')
def test_deformable_block(golden_path):
    golden = golden_files.load(golden_path)
    arrays = dcn_arrays(golden['keys'])
    block = BottleneckBlock(int(golden['planes']), int(golden['stride']), 'frozen_batch', jnp.float32, deformable=True)
    x = nhwc(published.network_input(f'dcn:x:{part_name(golden_path)}', golden['input_shape']))
    template = jax.eval_shape(block.init, jax.random.key(0), x)

    def converted(path, _):
        entry = torchvision_entry(('resnet', 'res2_0', *(key.key for key in path[1:])))
        return entry.layout.convert(arrays[entry.name])

    def keep(module, _):
        return module.name in ('conv2', 'offset')

    variables = jax.tree_util.tree_map_with_path(converted, template)
    output, state = jax.jit(lambda v, x: block.apply(v, x, capture_intermediates=keep, mutable=['intermediates']))(
        variables, x
    )
    near(state['intermediates']['conv2']['offset']['__call__'][0], nhwc(golden['offset']))
    near(state['intermediates']['conv2']['__call__'][0], nhwc(golden['conv2']))
    near(output, nhwc(golden['output']))


def dcn_arrays(keys):
    """The block's arrays: running statistics have a rule of their own here, and offsets their full gain."""
    arrays = {}
    for key in keys:
        name, _, shape = key.partition(':')
        shape = tuple(int(size) for size in shape.split('x') if size)
        value = published.weight(name, shape, offset_gain=1)
        if name.endswith('running_mean'):
            value = (0.1 * published.normal(name, shape)).astype(np.float32)
        if name.endswith('running_var'):
            value = (1 + 0.1 * np.abs(published.normal(name, shape))).astype(np.float32)
        arrays[name.replace('dcn_block.', 'layer1.0.')] = value
    return arrays


@golden_files.parametrize('net_fpn')
def test_pyramid_with_global_average(golden_path):
    golden = golden_files.load(golden_path)
    height, width = golden['hw']
    stages = [
        nhwc(published.network_input(f'{part_name(golden_path)}:{name}', (1, channels, height * f, width * f)))
        for name, channels, f in zip(STAGES, CHANNELS, (8, 4, 2, 1), strict=True)
    ]
    levels = run(lambda network, *stages: network.fpn(stages), *stages)
    for level, (name, step) in zip(
        levels, (('p2_stride8', 8), ('p3_stride8', 8), ('p4', 4), ('p5', 1), ('p6', 1)), strict=True
    ):
        near(level[..., ::step], nhwc(golden[name]))
    for level, expected in zip(levels, golden['stats'], strict=True):
        np.testing.assert_allclose(published.statistics(level), expected, rtol=1e-4)


@golden_files.parametrize('net_rpn')
def test_proposal_network(golden_path):
    golden = golden_files.load(golden_path)
    x = nhwc(published.network_input(f'{part_name(golden_path)}:p', (1, 256, *golden['hw'])))
    scores, deltas = run(lambda network, x: network.proposal_network([x]), x)
    stored = nhwc(golden['cls_score'])
    near(scores[0], stored.reshape(1, -1))
    near(deltas[0], nhwc(golden['bbox_pred']).reshape(1, -1, 4))
    near(nn.sigmoid(scores[0]), nhwc(golden['cls_prob']).reshape(1, -1))


@golden_files.parametrize('net_fcn')
def test_semantic_head(golden_path):
    golden = golden_files.load(golden_path)
    levels = pyramid(part_name(golden_path), *golden['hw'])
    boxes = golden['rois'][None, :, 1:] + SHIFT
    size = 4 * jnp.array([levels[0].shape[1:3]])

    def head(network, *levels):
        logits = network.semantic_head(levels)
        inner = [network.semantic_head.conv1, network.semantic_head.conv2, network.semantic_head.conv3]
        x = levels[-1]
        for layer in inner:
            x = nn.relu(layer(x))
        return logits, network.segment_semantics_in_boxes(logits, jnp.array(boxes), size), x

    apply = nn.apply(
        head, published.network(), capture_intermediates=lambda m, _: m.name == 'offset', mutable=['intermediates']
    )
    (logits, in_boxes, last), state = jax.jit(apply)(published.variables(), *levels)
    near(last, nhwc(golden['subnet_p5']))
    offsets = state['intermediates']['semantic_head']['conv1']['offset']['__call__']
    near(offsets[-1], nhwc(golden['offset_p5']))
    near(logits, nhwc(golden['fcn_score']))
    full = resize_bilinear(logits, tuple(4 * size for size in logits.shape[1:3]))
    near(full[:, ::2, ::2, ::19], nhwc(golden['fcn_output_sub']))
    np.testing.assert_array_equal(np.argmax(full, axis=-1), golden['fcn_output_argmax'])
    near(jnp.moveaxis(in_boxes[0], -1, 1)[:, ::19], golden['fcn_roi_score_stride19'])


@golden_files.parametrize('net_heads')
def test_box_and_mask_heads(golden_path):
    golden = golden_files.load(golden_path)
    levels = pyramid(part_name(golden_path), *golden['hw'])
    boxes = jnp.array(golden['rois'][None, :, 1:] + SHIFT)
    classes = jnp.array(golden['mask_cls'][None] - 1)

    size = 4 * jnp.array([levels[0].shape[1:3]])

    def heads(network, boxes, classes, *levels):
        level = pyramid_level(boxes)
        pooled = [roi_align(levels, boxes, level, strides=(4, 8, 16, 32), output_size=size) for size in (7, 14)]
        masks = [
            network.segment_boxes(levels, boxes, jnp.full_like(classes, thing), size) for thing in range(19, 80, 20)
        ]
        own = network.segment_boxes(levels, boxes, classes, size)
        return level, pooled, network.classify_boxes(levels, boxes, size), own, masks

    def keep(module, _):
        return module.name == 'fc7'

    apply = nn.apply(heads, published.network(), capture_intermediates=keep, mutable=['intermediates'])
    (level, pooled, (scores, deltas), own, masks), state = jax.jit(apply)(
        published.variables(), boxes, classes, *levels
    )
    pool7, pool14 = pooled
    np.testing.assert_array_equal(level[0], golden['level'])
    near(jnp.moveaxis(pool7[0], -1, 1)[:, ::16], golden['pool7_stride16'])
    near(jnp.moveaxis(pool14[0], -1, 1)[:, ::32], golden['pool14_stride32'])
    near(nn.relu(state['intermediates']['box_head']['fc7']['__call__'][0][0]), golden['fc_feat'])
    near(scores[0], golden['cls_score'])
    near(deltas[0].reshape(len(golden['rois']), -1), golden['bbox_pred'][:, 4:])
    near(own[0], golden['mask_score_own'])
    # Every 20th of the published channels; channel 0 is the mask of the background, which is not kept.
    near(jnp.concatenate(masks)[:, :, ::3, ::3].swapaxes(0, 1), golden['mask_score_sub'][:, 1:])

"""Arrays of PyTorch's layout do in our layers what PyTorch's formulas, written out in NumPy, do with them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.convert import layouts
from sognet_jax.models.layers import Upsample2x, interleave

RNG = np.random.default_rng(0)


def random(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def windows(x, size, pad):
    """`[N, C, H, W]` -> `[N, C, H', W', size, size]`: what a convolution sees at each pixel."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))


def nhwc(x):
    return jnp.array(np.moveaxis(x, 1, -1))


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('layout', 'ours', 'theirs'),
    [
        (layouts.VECTOR, (5,), (5,)),
        (layouts.CONVOLUTION, (3, 3, 4, 6), (6, 4, 3, 3)),
        (layouts.BGR_CONVOLUTION, (7, 7, 3, 6), (6, 3, 7, 7)),
        (layouts.POINTWISE, (4, 6), (6, 4, 1, 1)),
        (layouts.LINEAR, (4, 6), (6, 4)),
        (layouts.FLATTENED, (49 * 2, 6), (6, 49 * 2)),
        (layouts.TRANSPOSED_CONVOLUTION, (4, 2, 2, 6), (4, 6, 2, 2)),
        (layouts.BOXES, (4, 4 * 5), (4 * 6, 4)),
        (layouts.BOXES_BIAS, (4 * 5,), (4 * 6,)),
        (layouts.MASKS, (5, 4), (6, 4, 1, 1)),
        (layouts.MASKS_BIAS, (5,), (6,)),
        (layouts.LEVELS, (4, 3, 5), (5, 4 * 3, 1, 1)),
    ],
)
def test_source_shapes_are_those_that_become_ours(layout, ours, theirs):
    assert layout.source_shape(ours) == theirs
    array = np.arange(np.prod(theirs), dtype=np.float32).reshape(theirs)
    converted = layout.convert(array)
    assert converted.shape == ours
    # Every number arrives once; of a class axis the background, the first class, is left out.
    left_out = array.size - converted.size
    np.testing.assert_array_equal(np.sort(converted, axis=None), array.ravel()[left_out:])


def test_convolutions():
    weight, x = random(6, 4, 3, 3), random(2, 4, 7, 5)
    theirs = np.einsum('nchwij,ocij->nohw', windows(x, 3, 1), weight)
    layer = nn.Conv(6, (3, 3), padding=1, use_bias=False)
    same(layer.apply({'params': {'kernel': layouts.CONVOLUTION.convert(weight)}}, nhwc(x)), nhwc(theirs))

    weight = random(6, 4, 1, 1)
    theirs = np.einsum('nchw,oc->nohw', x, weight[:, :, 0, 0])
    layer = nn.Dense(6, use_bias=False)
    same(layer.apply({'params': {'kernel': layouts.POINTWISE.convert(weight)}}, nhwc(x)), nhwc(theirs))


def test_a_first_convolution_that_reads_bgr_gives_the_same_on_rgb():
    weight, rgb = random(6, 3, 7, 7), random(1, 3, 9, 8)
    theirs = np.einsum('nchwij,ocij->nohw', windows(rgb[:, ::-1], 7, 3), weight)
    layer = nn.Conv(6, (7, 7), padding=3, use_bias=False)
    same(layer.apply({'params': {'kernel': layouts.BGR_CONVOLUTION.convert(weight)}}, nhwc(rgb)), nhwc(theirs))


def test_linear_layers_on_flattened_features():
    pooled, weight = random(5, 3, 7, 7), random(6, 3 * 49)
    theirs = pooled.reshape(5, -1) @ weight.T
    same(nhwc(pooled).reshape(5, -1) @ layouts.FLATTENED.convert(weight), theirs)
    weight = random(4, 6)
    same(theirs @ layouts.LINEAR.convert(weight), theirs @ weight.T)


def test_transposed_convolution():
    weight, bias, x = random(4, 6, 2, 2), random(6), random(2, 4, 3, 5)
    theirs = np.zeros((2, 6, 6, 10), np.float32) + bias[:, None, None]
    for i in range(2):
        for j in range(2):
            theirs[:, :, i::2, j::2] += np.einsum('nchw,co->nohw', x, weight[:, :, i, j])
    kernel = layouts.TRANSPOSED_CONVOLUTION.convert(weight)
    ours = Upsample2x(6).apply({'params': {'kernel': kernel, 'bias': bias}}, nhwc(x))
    same(jax.vmap(interleave, in_axes=-1, out_axes=-1)(ours), nhwc(theirs))


def test_heads_with_a_background_class_lose_it():
    classes, x = 5, random(7, 4)
    weight, bias = random(4 * (classes + 1), 4), random(4 * (classes + 1))
    theirs = (x @ weight.T + bias).reshape(7, classes + 1, 4)
    ours = x @ layouts.BOXES.convert(weight) + layouts.BOXES_BIAS.convert(bias)
    same(ours.reshape(7, classes, 4), theirs[:, 1:])

    weight, bias = random(classes + 1, 4, 1, 1), random(classes + 1)
    theirs = x @ weight[:, :, 0, 0].T + bias
    same(x @ layouts.MASKS.convert(weight).T + layouts.MASKS_BIAS.convert(bias), theirs[:, 1:])


def test_the_score_of_concatenated_levels_is_the_sum_of_their_scores():
    levels, weight = [random(2, 3, 5, 6) for _ in range(4)], random(7, 12, 1, 1)
    theirs = np.einsum('nchw,oc->nohw', np.concatenate(levels, axis=1), weight[:, :, 0, 0])
    kernel = layouts.LEVELS.convert(weight)
    ours = sum(nhwc(level) @ matrix for level, matrix in zip(levels, kernel, strict=True))
    same(ours, nhwc(theirs))

"""The occlusion head against loops over its definition, and a network that does without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.models.occlusion_head import OcclusionHead, overlapping_enough
from sognet_jax.models.sognet import build_network, variable_shapes
from tests.support.examples import tiny_config


def convolve(x, kernel, bias, stride):
    """`[h, w, c]` with a border of zeros, pixel by pixel."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return np.array(
        [
            [np.einsum('yxc,yxcf->f', padded[y : y + 3, x : x + 3], kernel) + bias for x in range(0, width, stride)]
            for y in range(0, height, stride)
        ]
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize('side', [7, 14])
def test_is_what_loops_compute(side):
    rng = np.random.default_rng(side)
    pooled = rng.normal(size=(2, 3, side, side, 2)).astype(np.float32)
    masks = rng.normal(size=(2, 3, 28, 28)).astype(np.float32)
    first, second = np.array([[0, 1, 2, 2], [1, 0, 0, 2]]), np.array([[1, 0, 0, 1], [2, 2, 1, 0]])
    head = OcclusionHead(width=3, features=5, side=side, pairs=4)
    variables = head.init(jax.random.key(0), pooled, masks, first, second)
    variables = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), variables)  # biases that are not 0
    logits = jax.jit(head.apply)(variables, pooled, masks, first, second)
    params = jax.tree.map(np.asarray, variables['params'])
    assert params['conv1']['kernel'].shape == (3, 3, 6, 3), 'two instances, each with its features and its mask'
    cell = 28 // side
    for image in range(2):
        for pair, (i, j) in enumerate(zip(first[image], second[image], strict=True)):
            x = np.zeros((side, side, 6))
            for place, one in ((0, i), (3, j)):
                x[:, :, place : place + 2] = pooled[image, one]
                for row in range(side):
                    for column in range(side):
                        cells = masks[image, one, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
                        x[row, column, place + 2] = sigmoid(cells.max())
            for name, stride in (('conv1', 1), ('conv2', 1), ('conv3', 1), ('conv4', 2)):
                x = np.maximum(convolve(x, params[name]['kernel'], params[name]['bias'], stride), 0)
            x = np.maximum(x.reshape(-1) @ params['fc']['kernel'] + params['fc']['bias'], 0)
            expected = x @ params['logit']['kernel'] + params['logit']['bias']
            np.testing.assert_allclose(logits[image, pair], expected[0], rtol=2e-4, atol=1e-4)
    assert np.ptp(logits) > 0.01


def test_a_side_that_does_not_divide_the_masks_is_named():
    head = OcclusionHead(width=3, features=5, side=12, pairs=4)
    nobody = jnp.zeros((1, 1), int)
    with pytest.raises(ValueError, match=r'model\.occlusion\.side must divide 28, not 12'):
        head.init(jax.random.key(0), jnp.zeros((1, 1, 12, 12, 2)), jnp.zeros((1, 1, 28, 28)), nobody, nobody)


def test_pairs_share_a_fifth_of_either_mask():
    rng = np.random.default_rng(0)
    left, top = rng.integers(0, 36, (2, 12))
    width, height = rng.integers(10, 28, (2, 12))
    left[:3], top[:3], width[:3], height[:3] = (0, 8, 9), 2, 10, 10  # a fifth of either; a tenth
    boxes = np.stack([left, top, left + width, top + height], axis=-1).astype(np.float32)
    valid = rng.random(12) < 0.8
    valid[:3] = True
    masks = np.zeros((12, 64, 64), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    masks[~valid] = False
    masks[:, 50:] = False  # behind the end of the image
    logits = np.full((1, 12, 28, 28), 4.0, np.float32)
    found = overlapping_enough(logits, boxes[None], valid[None], np.array([[50, 64]]), (64, 64))[0]
    for i in range(12):
        for j in range(12):
            common, areas = (masks[i] & masks[j]).sum(), (masks[i].sum(), masks[j].sum())
            enough = i != j and any(area and common >= 0.2 * area for area in areas)
            assert found[i, j] == enough, (i, j)
    assert found[0, 1] and not found[0, 2] and 10 < np.sum(found) < 60


def test_without_a_width_there_is_no_head_and_nothing_else_changes():
    config = tiny_config().model
    without = variable_shapes(build_network(config, SHAPES))
    assert 'occlusion_head' not in without['params']
    config.occlusion.update(width=4, features=4)
    params = variable_shapes(build_network(config, SHAPES))['params']
    assert params.pop('occlusion_head')['fc']['kernel'].shape == (7 * 7 * 4, 4)
    assert params == without['params']

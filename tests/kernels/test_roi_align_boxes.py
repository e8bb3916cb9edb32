"""ROI align on boxes and shapes that are not the usual ones, against loops in NumPy; the kernel lowers for GPUs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.kernels.roi_align import roi_align
from tests.support.lowering import lower_for_cuda
from tests.support.roi_align import RUNNABLE

pytestmark = pytest.mark.compiles

STRIDES = (4, 8)
SIZES = ((21, 37), (11, 19))
SINGLE_PRECISION_SUMS = ('windows', 'triton_interpreted')

BOXES = np.array(
    [
        [13, 9, 71, 50],
        [-22, -15, 40, 31],
        [-300, 20, -200, 60],
        [200, 100, 260, 140],
        [30, 22, 31, 23],  # inclusive corners: no area
        [70, 44, 20, 11],  # inverted
        [0, 0, 149, 85],
        [100, 37, 148, 84],  # up to the border
        [2, 33, 146, 36],
    ],
    np.float32,
)


def axis_weights(begin, end, length, limit, cells, ratio, aligned):
    """`[cells, length]` mean weight of a cell's samples on each pixel of one axis, sample by sample in float64."""
    if aligned:
        begin, end = begin - 0.5, end - 0.5
    size = end - begin if aligned else max(end - begin, 1)
    weights = np.zeros((cells, length))
    for cell in range(cells):
        for sample in range(ratio):
            position = begin + size * (cell + (sample + 0.5) / ratio) / cells
            if position < -1 or position > limit:
                continue
            position = min(max(position, 0), limit - 1)
            low = math.floor(position)
            weights[cell, low] += (1 - (position - low)) / ratio
            if low + 1 < limit:
                weights[cell, low + 1] += (position - low) / ratio
    return weights


def naive(features, boxes, level, cotangent, *, output_size, ratio, aligned, extent):
    """Pooled values and the gradients of sum(cotangent * pooled)."""
    pooled = np.zeros(cotangent.shape)
    gradients = [np.zeros(x.shape) for x in features]
    for image, index in np.ndindex(*level.shape):
        stride = STRIDES[level[image, index]]
        x1, y1, x2, y2 = (boxes[image, index] - [0, 0, 1, 1]) / stride
        feature, gradient = features[level[image, index]][image], gradients[level[image, index]][image]
        height, width, _ = feature.shape
        rows, columns = np.minimum([height, width], -(-extent[image] // stride))
        along_y = axis_weights(y1, y2, height, rows, output_size, ratio, aligned)
        along_x = axis_weights(x1, x2, width, columns, output_size, ratio, aligned)
        pooled[image, index] = np.einsum('sh,tw,hwc->stc', along_y, along_x, feature)
        gradient += np.einsum('sh,tw,stc->hwc', along_y, along_x, cotangent[image, index])
    return pooled, gradients


def make_inputs(channels, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(batch, *size, channels)).astype(np.float32) for size in SIZES]
    boxes = np.stack([np.roll(BOXES, image, axis=0) for image in range(batch)])
    level = rng.integers(0, 2, (batch, len(BOXES))).astype(np.int32)
    return features, boxes, level


def pool_and_pull_back(features, boxes, level, cotangent, **options):
    """As `naive`, jitted."""

    def run(features, boxes, level, cotangent):
        pooled, pull_back = jax.vjp(lambda x: roi_align(x, boxes, level, strides=STRIDES, **options), features)
        return pooled, pull_back(cotangent)[0]

    return jax.jit(run)(list(map(jnp.array, features)), boxes, level, cotangent)


@pytest.mark.parametrize('implementation', RUNNABLE)
@pytest.mark.parametrize(('channels', 'ratio', 'aligned'), [(3, 2, False), (5, 1, True)])
def test_awkward_boxes_are_pooled_as_by_a_loop(channels, ratio, aligned, implementation):
    features, boxes, level = make_inputs(channels)
    # Sample positions are exact in binary, so that float32 decides as float64 does which samples count.
    size, extent = 4, np.array([[84, 148], [64, 96]])
    cotangent = np.random.default_rng(1).normal(size=(*level.shape, size, size, channels)).astype(np.float32)
    expected, expected_gradients = naive(
        features, boxes, level, cotangent, output_size=size, ratio=ratio, aligned=aligned, extent=extent
    )
    pooled, gradients = pool_and_pull_back(
        features, boxes, level, cotangent, output_size=size, sampling_ratio=ratio, aligned=aligned,
        extent=jnp.array(extent), implementation=implementation,
    )  # fmt: skip
    np.testing.assert_allclose(pooled, expected, atol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5 * np.abs(expected_gradient).max())


@pytest.mark.parametrize('implementation', SINGLE_PRECISION_SUMS)
def test_bfloat16_is_rounded_once(implementation):
    """One box, 130 channels (more than a block of the kernel), one cell."""
    features, boxes, _ = make_inputs(130, batch=1)
    features = [jnp.array(x, jnp.bfloat16) for x in features]
    boxes, level, cotangent = boxes[:, :1], np.zeros((1, 1), np.int32), jnp.ones((1, 1, 1, 1, 130), jnp.bfloat16)
    options = {'output_size': 1, 'sampling_ratio': 2}
    pooled, gradients = pool_and_pull_back(features, boxes, level, cotangent, **options, implementation=implementation)
    expected, expected_gradients = pool_and_pull_back(
        [x.astype(jnp.float32) for x in features], boxes, level, cotangent.astype(jnp.float32), **options,
        implementation='xla',
    )  # fmt: skip
    assert pooled.dtype == gradients[0].dtype == jnp.bfloat16
    # Half a unit in the last of 8 bits.
    np.testing.assert_allclose(pooled.astype(np.float32), expected, rtol=2**-8, atol=1e-6)
    np.testing.assert_allclose(gradients[0].astype(np.float32), expected_gradients[0], rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize('implementation', SINGLE_PRECISION_SUMS)
def test_mapped_over_an_axis_it_does_the_same(implementation):
    features, boxes, level = make_inputs(3, batch=3)
    cotangent = jnp.array(np.random.default_rng(1).normal(size=(3, 1, 3, 2, 2, 3)), jnp.float32)

    def run(feature, boxes, cotangent, implementation):
        def pool(x):
            options = {'strides': STRIDES[:1], 'output_size': 2, 'implementation': implementation}
            return roi_align([x], boxes, jnp.zeros((1, 3), jnp.int32), **options)

        pooled, pull_back = jax.vjp(pool, feature)
        return pooled, pull_back(cotangent)[0]

    mapped = jax.vmap(lambda *x: run(*x, implementation))
    pooled, gradient = jax.jit(mapped)(jnp.array(features[0][:, None]), boxes[:, None, :3], cotangent)
    for image in range(3):
        expected = run(jnp.array(features[0][image][None]), boxes[image][None, :3], cotangent[image], 'xla')
        np.testing.assert_allclose(pooled[image], expected[0], atol=1e-5)
        np.testing.assert_allclose(gradient[image], expected[1], atol=1e-5)


@pytest.mark.parametrize('implementation', ['xla', 'windows'])
def test_boxes_get_no_gradient_and_levels_are_clamped(implementation):
    features, boxes, level = make_inputs(3, batch=1)

    @jax.jit
    def pool(boxes, level):
        def total(boxes):
            options = {'strides': STRIDES, 'output_size': 2, 'implementation': implementation}
            pooled = roi_align(list(map(jnp.array, features)), boxes, level, **options)
            return pooled.sum(), pooled

        return jax.grad(total, has_aux=True)(boxes)

    gradient, pooled = pool(boxes, level)
    assert not gradient.any()
    np.testing.assert_array_equal(pool(boxes, level * 8 - 3)[1], pooled)


@pytest.mark.parametrize('implementation', RUNNABLE)
def test_no_boxes_are_no_error(implementation):
    features, _, _ = make_inputs(3, batch=1)
    boxes, level = jnp.zeros((1, 0, 4)), jnp.zeros((1, 0), jnp.int32)
    pooled = roi_align(features, boxes, level, strides=STRIDES, output_size=2, implementation=implementation)
    assert pooled.shape == (1, 0, 2, 2, 3)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(('boxes', 'size'), [(512, 7), (100, 14)])
def test_kernels_lower_for_gpus(boxes, size, dtype):
    pytest.importorskip('jax.experimental.pallas.triton')
    from sognet_jax.kernels.roi_align import triton
    from sognet_jax.kernels.roi_align.geometry import Cells

    features = [jax.ShapeDtypeStruct((2, 200 >> i, 336 >> i, 256), dtype) for i in range(4)]
    arguments = jax.ShapeDtypeStruct((2, boxes, 4), jnp.float32), jax.ShapeDtypeStruct((2, boxes), jnp.int32)

    def pool(features, boxes, level):
        extent = jnp.array([[800, 1344], [640, 960]])
        return triton.roi_align(features, boxes, level, extent, Cells((4, 8, 16, 32), size, 2, False), interpret=False)

    def gradient(features, boxes, level):
        return jax.grad(lambda x: pool(x, boxes, level).astype(jnp.float32).sum())(features)

    assert 'roi_align_forward' in lower_for_cuda(pool, features, *arguments)
    assert 'roi_align_backward' in lower_for_cuda(gradient, features, *arguments)

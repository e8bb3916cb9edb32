"""ROI align: every implementation against torchvision's numbers and against each other; which one is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.kernels.choice import INTERPRETED, Target, traced_for
from sognet_jax.kernels.roi_align import pyramid_level, roi_align
from tests.support import golden_files
from tests.support.golden_files import SHIFT
from tests.support.roi_align import RUNNABLE

pytestmark = pytest.mark.compiles


def pool_golden(golden, features, ratio, implementation):
    """Pools every box of a golden file from its image, `[K, C, S, S]`."""
    image, boxes = golden['rois'][:, 0].astype(int), golden['rois'][:, 1:] + SHIFT
    # Every box is pooled from every image; its own one is picked afterwards.
    tiled = jnp.broadcast_to(jnp.array(boxes), (features.shape[0], *boxes.shape))
    pooled = roi_align(
        [features],
        tiled,
        jnp.zeros(tiled.shape[:2], jnp.int32),
        strides=[round(1 / float(golden['spatial_scale']))],
        output_size=int(golden['output_size']),
        sampling_ratio=ratio,
        aligned=bool(golden['aligned']),
        implementation=implementation,
    )
    return jnp.moveaxis(pooled[image, np.arange(len(boxes))], -1, 1)


@pytest.mark.parametrize('implementation', RUNNABLE)
@golden_files.parametrize('ops_roi_align_*_sr[1-9]')
def test_values_and_gradients_are_those_of_torchvision(golden_path, implementation):
    golden = golden_files.load(golden_path)
    ratio = int(golden['sampling_ratio'])

    @jax.jit
    def pool_and_pull_back(features, cotangent):
        output, pull_back = jax.vjp(lambda x: pool_golden(golden, x, ratio, implementation), features)
        return output, pull_back(cotangent)[0]

    output, gradient = pool_and_pull_back(golden_files.nhwc(golden['input']), jnp.array(golden['cotangent']))
    np.testing.assert_allclose(output, golden['output'], atol=2e-5)
    np.testing.assert_allclose(jnp.moveaxis(gradient, -1, 1), golden['grad_input'], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('implementation', [name for name in RUNNABLE if name != INTERPRETED])
@golden_files.parametrize('ops_roi_align_*_sr0')
def test_boxes_whose_adaptive_number_of_samples_is_known(golden_path, implementation):
    """torchvision's ratio 0 takes ceil(size / S) samples per cell and axis, which differs from box to box: no static
    shape. Boxes with the same number k along both axes must have the values of ratio k."""
    golden = golden_files.load(golden_path)
    features = golden_files.nhwc(golden['input'])
    sizes = (golden['rois'][:, 3:] - golden['rois'][:, 1:3]) * golden['spatial_scale']
    samples = np.ceil((sizes if golden['aligned'] else np.maximum(sizes, 1)) / golden['output_size']).astype(int)
    pool = jax.jit(lambda features, ratio: pool_golden(golden, features, ratio, implementation), static_argnums=1)
    compared = 0
    for number in np.unique(samples[samples > 0]):
        rows = np.flatnonzero((samples == number).all(axis=1))
        if len(rows):
            np.testing.assert_allclose(pool(features, int(number))[rows], golden['output'][rows], atol=2e-5)
        compared += len(rows)
    assert compared >= len(samples) // 3


def random_pyramid(rng, batch=2, size=64, channels=3):
    return [jnp.array(rng.normal(size=(batch, size // s, size // s, channels)), jnp.float32) for s in (4, 8, 16, 32)]


@pytest.mark.parametrize('implementation', RUNNABLE)
def test_boxes_read_one_level_alone(implementation):
    rng = np.random.default_rng(0)
    pyramid = random_pyramid(rng, batch=1)
    corners = rng.uniform(-5, 60, (1, 9, 2))
    boxes = jnp.array(np.concatenate([corners, corners + rng.uniform(1, 50, (1, 9, 2))], -1), jnp.float32)
    level = jnp.array(rng.integers(0, 4, (1, 9)), jnp.int32)
    options = {'strides': (4, 8, 16, 32), 'output_size': 2, 'implementation': implementation}
    pool = jax.jit(lambda pyramid: roi_align(pyramid, boxes, level, **options))
    pooled = pool(pyramid)
    for index in range(4):
        others = [x if i == index else x + 100 for i, x in enumerate(pyramid)]
        np.testing.assert_array_equal(pool(others)[level == index], pooled[level == index])


@golden_files.parametrize('net_heads_')
def test_levels_are_the_published_ones(golden_path):
    golden = golden_files.load(golden_path)
    np.testing.assert_array_equal(pyramid_level(jnp.array(golden['rois'][:, 1:] + SHIFT)), golden['level'])


def test_what_is_lowered_for_a_tpu_on_a_cpu_has_no_loop_over_boxes():
    features, boxes, level = jnp.zeros((1, 80, 80, 4)), jnp.zeros((1, 30, 4)), jnp.zeros((1, 30), jnp.int32)

    def loss(features):
        return jnp.sum(roi_align([features], boxes, level, strides=(4,), output_size=7) ** 2)

    def lowered(platform):
        with traced_for(Target(platform)):
            return jax.jit(jax.grad(loss)).trace(features).lower(lowering_platforms=(platform,)).as_text()

    assert 'stablehlo.while' in lowered('cpu')
    assert 'dynamic_slice' not in lowered('tpu')

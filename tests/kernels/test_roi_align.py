"""ROI align: both implementations against torchvision's numbers and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.roi_align import IMPLEMENTATIONS, pyramid_level, roi_align
from tests import golden_files
from tests.golden_files import SHIFT


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@golden_files.parametrize('ops_roi_align_*_sr[1-9]')
def test_values_and_gradients_are_those_of_torchvision(golden_path, implementation):
    golden = golden_files.load(golden_path)
    features = jnp.moveaxis(jnp.array(golden['input']), 1, -1)
    image, boxes = golden['rois'][:, 0].astype(int), golden['rois'][:, 1:] + SHIFT
    batch = features.shape[0]
    # Every box is pooled from every image; its own one is picked afterwards.
    tiled = jnp.broadcast_to(jnp.array(boxes), (batch, *boxes.shape))

    def pool(features):
        pooled = roi_align(
            [features],
            tiled,
            jnp.zeros(tiled.shape[:2], jnp.int32),
            strides=[round(1 / float(golden['spatial_scale']))],
            output_size=int(golden['output_size']),
            sampling_ratio=int(golden['sampling_ratio']),
            aligned=bool(golden['aligned']),
            implementation=implementation,
        )
        return jnp.moveaxis(pooled[image, np.arange(len(boxes))], -1, 1)

    output, pull_back = jax.vjp(pool, features)
    np.testing.assert_allclose(output, golden['output'], atol=2e-5)
    (gradient,) = pull_back(jnp.array(golden['cotangent']))
    np.testing.assert_allclose(jnp.moveaxis(gradient, -1, 1), golden['grad_input'], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@golden_files.parametrize('ops_roi_align_*_sr0')
def test_boxes_whose_adaptive_number_of_samples_is_known(golden_path, implementation):
    """torchvision's ratio 0 takes ceil(size / S) samples per cell and axis, which differs from box to box: no static
    shape. Boxes with the same number k along both axes must have the values of ratio k."""
    golden = golden_files.load(golden_path)
    features = jnp.moveaxis(jnp.array(golden['input']), 1, -1)
    image, boxes = golden['rois'][:, 0].astype(int), golden['rois'][:, 1:] + SHIFT
    sizes = (golden['rois'][:, 3:] - golden['rois'][:, 1:3]) * golden['spatial_scale']
    samples = np.ceil((sizes if golden['aligned'] else np.maximum(sizes, 1)) / golden['output_size']).astype(int)
    compared = 0
    for number in np.unique(samples[samples > 0]):
        rows = np.flatnonzero((samples == number).all(axis=1))
        for index in np.unique(image[rows]):
            chosen = rows[image[rows] == index]
            pooled = roi_align(
                [features[index : index + 1]],
                jnp.array(boxes[None, chosen]),
                jnp.zeros((1, len(chosen)), jnp.int32),
                strides=[round(1 / float(golden['spatial_scale']))],
                output_size=int(golden['output_size']),
                sampling_ratio=int(number),
                aligned=bool(golden['aligned']),
                implementation=implementation,
            )
            np.testing.assert_allclose(jnp.moveaxis(pooled[0], -1, 1), golden['output'][chosen], atol=2e-5)
            compared += len(chosen)
    assert compared >= len(boxes) // 3


def random_pyramid(rng, batch=2, size=64, channels=3):
    return [jnp.array(rng.normal(size=(batch, size // s, size // s, channels)), jnp.float32) for s in (4, 8, 16, 32)]


def test_implementations_agree_over_a_pyramid_and_read_one_level_alone():
    rng = np.random.default_rng(0)
    pyramid = random_pyramid(rng)
    corners = rng.uniform(-5, 60, (2, 9, 2))
    boxes = jnp.array(np.concatenate([corners, corners + rng.uniform(1, 50, (2, 9, 2))], -1), jnp.float32)
    level = jnp.array(rng.integers(0, 4, (2, 9)), jnp.int32)
    options = {'strides': (4, 8, 16, 32), 'output_size': 5}
    reference = roi_align(pyramid, boxes, level, implementation='xla', **options)
    np.testing.assert_allclose(
        roi_align(pyramid, boxes, level, implementation='matmul', **options), reference, atol=1e-5
    )
    for index in range(4):
        others = [x if i == index else x + 100 for i, x in enumerate(pyramid)]
        unchanged = roi_align(others, boxes, level, implementation='xla', **options)
        np.testing.assert_array_equal(unchanged[level == index], reference[level == index])


@golden_files.parametrize('net_heads_')
def test_levels_are_the_published_ones(golden_path):
    golden = golden_files.load(golden_path)
    np.testing.assert_array_equal(pyramid_level(jnp.array(golden['rois'][:, 1:] + SHIFT)), golden['level'])


def test_an_unknown_implementation_is_refused():
    pyramid = random_pyramid(np.random.default_rng(0))
    with pytest.raises(ValueError, match='magic'):
        roi_align(
            pyramid, jnp.zeros((2, 1, 4)), jnp.zeros((2, 1), int), strides=(4, 8, 16, 32), output_size=7,
            implementation='magic',
        )  # fmt: skip

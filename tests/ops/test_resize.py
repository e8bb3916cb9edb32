"""Resizing against PyTorch's and OpenCV's numbers, gradients included."""

import jax
import numpy as np

from sognet_jax.ops.resize import resize_bilinear, upsample_nearest
from tests.support import golden_files
from tests.support.golden_files import nhwc


@golden_files.parametrize('ops_interp_')
def test_interpolation_is_that_of_pytorch(golden_path):
    golden = golden_files.load(golden_path)
    size = golden['output'].shape[2:]
    if 'nearest' in golden_path.stem:
        resize = lambda x: upsample_nearest(x, int(golden['scale_factor']))  # noqa: E731
    else:
        resize = lambda x: resize_bilinear(x, size)  # noqa: E731
    output, pull_back = jax.vjp(resize, nhwc(golden['input']))
    np.testing.assert_allclose(output, nhwc(golden['output']), atol=1e-5)
    (gradient,) = pull_back(nhwc(golden['cotangent']))
    np.testing.assert_allclose(gradient, nhwc(golden['grad_input']), rtol=1e-4, atol=1e-4)


@golden_files.parametrize('ops_cv2_resize')
def test_bilinear_resizing_is_that_of_opencv(golden_path):
    golden = golden_files.load(golden_path)
    sizes = [name.removeprefix('linear_') for name in golden if name.startswith('linear_')]
    assert sizes
    for name in sizes:
        size = tuple(map(int, name.split('x')))
        resized = resize_bilinear(golden['input'][:, :, None], size)[:, :, 0]
        np.testing.assert_allclose(resized, golden[f'linear_{name}'], atol=2e-5)

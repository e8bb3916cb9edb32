"""Deformable convolution against torchvision's numbers, for every input's gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.kernels.deform_conv import deform_conv2d
from tests.support import golden_files
from tests.support.golden_files import close, nhwc

pytestmark = pytest.mark.compiles


def hwio(array):
    return jnp.transpose(jnp.array(array), (2, 3, 1, 0))


@pytest.mark.parametrize('implementation', ['xla', 'triton_interpreted'])
@golden_files.parametrize('ops_deform_conv_')
def test_values_and_gradients_are_those_of_torchvision(golden_path, implementation):
    golden = golden_files.load(golden_path)
    inputs = {'x': nhwc(golden['input']), 'offset': nhwc(golden['offset']), 'weight': hwio(golden['weight'])}
    inputs |= {'bias': jnp.array(golden['bias'])} if 'bias' in golden else {}
    inputs |= {'mask': nhwc(golden['mask'])} if 'mask' in golden else {}
    options = {name: int(golden[name]) for name in ('stride', 'padding', 'dilation', 'offset_groups')}

    # Small inputs: compiling takes a hundred times as long as running.
    @functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
    def run(inputs, cotangent):
        function = functools.partial(deform_conv2d, **options, implementation=implementation)
        output, pull_back = jax.vjp(lambda inputs: function(**inputs), inputs)
        return output, *pull_back(cotangent)

    output, gradients = run(inputs, nhwc(golden['cotangent']))
    close(output, nhwc(golden['output']))
    close(gradients['x'], nhwc(golden['grad_input']), 1e-4)
    close(gradients['weight'], hwio(golden['grad_weight']), 1e-4)
    # At samples exactly on -1 torchvision and the authors' kernel differ; either is right.
    actual = np.asarray(gradients['offset'])
    either = [np.asarray(nhwc(golden[name])) for name in ('grad_offset', 'grad_offset_open')]
    nearer = np.where(np.abs(actual - either[0]) < np.abs(actual - either[1]), either[0], either[1])
    close(actual, nearer, 1e-4)
    if 'bias' in golden:
        close(gradients['bias'], golden['grad_bias'], 1e-4)
    if 'mask' in golden:
        close(gradients['mask'], nhwc(golden['grad_mask']), 1e-4)


def test_without_offsets_it_is_a_convolution():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 9, 7, 3)).astype(np.float32), rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(x, weight, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    np.testing.assert_allclose(deform_conv2d(x, np.zeros((2, 9, 7, 18)), weight), expected, atol=1e-5)


def test_images_of_a_batch_do_not_mix():
    rng = np.random.default_rng(1)
    x, offset = rng.normal(size=(3, 6, 5, 2)).astype('f4'), rng.normal(size=(3, 6, 5, 18)).astype('f4') * 4
    weight = rng.normal(size=(3, 3, 2, 2)).astype('f4')
    together = deform_conv2d(x, offset, weight)
    for index in range(3):
        alone = deform_conv2d(x[index : index + 1], offset[index : index + 1], weight)
        np.testing.assert_allclose(together[index], alone[0], atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'implementation': 'magic'}, 'magic'),
        ({'offset': np.zeros((1, 4, 4, 17))}, 'offset needs 18'),
        ({'mask': np.zeros((1, 4, 4, 8))}, 'mask needs 9'),
        ({'weight': np.zeros((3, 3, 5, 2))}, 'channels'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    arguments = {'x': np.zeros((1, 4, 4, 2)), 'offset': np.zeros((1, 4, 4, 18)), 'weight': np.zeros((3, 3, 2, 2))}
    with pytest.raises(ValueError, match=message):
        deform_conv2d(**(arguments | changes))

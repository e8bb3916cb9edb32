"""The Triton kernels of deformable convolution where golden files do not reach: odd sizes, other types, far offsets."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.kernels.choice import Target, traced_for
from sognet_jax.kernels.deform_conv import deform_conv2d, triton
from tests.support.golden_files import close
from tests.support.lowering import lower_for_cuda

pytestmark = pytest.mark.compiles

QUICKLY_COMPILED = {'xla_backend_optimization_level': 0}
"""Small inputs: compiling takes a hundred times as long as running."""

interpreted = functools.partial(deform_conv2d, implementation='triton_interpreted')


def make_inputs(rng, shape, features, kernel, out_size, groups=1, modulated=False, reach=2.0):
    """Standard normal numbers; offsets of `reach` pixels."""
    taps = math.prod(kernel) * groups
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    inputs = {
        'x': draw(*shape),
        'offset': draw(shape[0], *out_size, 2 * taps) * reach,
        'weight': draw(*kernel, shape[-1], features),
        'bias': draw(features),
    }
    return inputs | ({'mask': draw(shape[0], *out_size, taps)} if modulated else {})


def naive(x, offset, weight, bias, mask=None, *, stride=1, padding=1, dilation=1, offset_groups=1):
    """One sample after the other, as the equations of the papers say it."""
    (_, height, width, channels), (kernel_height, kernel_width, _, features) = x.shape, weight.shape
    taps, size = kernel_height * kernel_width, channels // offset_groups
    output = np.zeros((*offset.shape[:3], features)) + bias
    for b, y, x_, group, tap in itertools.product(*map(range, (*offset.shape[:3], offset_groups, taps))):
        dy, dx = offset[b, y, x_, 2 * (group * taps + tap) :][:2]
        at_y = y * stride - padding + tap // kernel_width * dilation + float(dy)
        at_x = x_ * stride - padding + tap % kernel_width * dilation + float(dx)
        if not (-1 < at_y < height and -1 < at_x < width):
            continue
        chosen = slice(group * size, (group + 1) * size)
        factor = 1 if mask is None else mask[b, y, x_, group * taps + tap]
        for row, column in itertools.product(
            (math.floor(at_y), math.floor(at_y) + 1), (math.floor(at_x), math.floor(at_x) + 1)
        ):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(at_y - row)) * (1 - abs(at_x - column)) * factor
                output[b, y, x_] += share * x[b, row, column, chosen] @ weight.reshape(taps, channels, -1)[tap, chosen]
    return output


def run(function, inputs, **options):
    """The output and the gradients of all inputs for one fixed cotangent."""

    @functools.partial(jax.jit, compiler_options=QUICKLY_COMPILED)
    def both(inputs):
        output, pull_back = jax.vjp(lambda inputs: function(**inputs, **options), inputs)
        # Small integers: the same in every type.
        cotangent = jnp.arange(output.size).reshape(output.shape) % 7 - 2
        return output, *pull_back(cotangent.astype(output.dtype))

    return both(inputs)


@pytest.mark.parametrize(
    ('sizes', 'options'),
    [
        # Two blocks of features, five of channels, a kernel that is not square, tiles that stick out on two sides, and
        # 16 tiles in 9 shares of two for the weights: the last one is empty.
        ({'shape': (2, 14, 22, 80), 'features': 130, 'kernel': (2, 3), 'out_size': (13, 20)}, {'padding': 0}),
        (
            {
                'shape': (2, 8, 19, 9),
                'features': 3,
                'kernel': (3, 3),
                'out_size': (3, 9),
                'groups': 3,
                'modulated': True,
            },
            {'stride': 2, 'padding': 1, 'dilation': 2, 'offset_groups': 3},
        ),
    ],
    ids=['blocks', 'groups'],
)
def test_sizes_that_no_block_divides(sizes, options):
    inputs = make_inputs(np.random.default_rng(0), **sizes)
    output, gradients = run(interpreted, inputs, **options)
    close(output, naive(**inputs, **options))
    _, expected = run(functools.partial(deform_conv2d, implementation='xla'), inputs, **options)
    for name in inputs:
        close(gradients[name], np.asarray(expected[name]))


def test_samples_that_are_nowhere_are_outside():
    """Far offsets, infinite ones and nan read nothing, and spoil no gradient."""
    inputs = make_inputs(np.random.default_rng(1), (1, 6, 5, 4), 3, (3, 3), (6, 5), modulated=True, reach=0.7)
    far = np.random.default_rng(2).random(inputs['offset'].shape) < 0.2
    strange = np.resize(np.array([np.nan, 1e20, -np.inf, 3e9, -5000.0], np.float32), inputs['offset'].shape)
    output, gradients = run(interpreted, inputs | {'offset': np.where(far, strange, inputs['offset'])})
    inputs['offset'] = np.where(far, np.float32(99), inputs['offset'])
    close(output, naive(**inputs))
    _, expected = run(functools.partial(deform_conv2d, implementation='xla'), inputs)
    for name in inputs:
        close(gradients[name], np.asarray(expected[name]))


@pytest.mark.parametrize(('dtype', 'tolerance'), [('bfloat16', 0.006), ('float16', 0.001)])
def test_half_precision_is_near_float32(dtype, tolerance):
    """Samples, gradients of outputs and results are rounded once each, to 2^-9 (bfloat16) or 2^-12 of their size."""
    inputs = make_inputs(np.random.default_rng(3), (2, 6, 7, 32), 16, (3, 3), (6, 7), modulated=True)
    inputs = jax.tree.map(lambda array: jnp.asarray(array, dtype), inputs)
    output, gradients = run(interpreted, inputs)
    assert {output.dtype, *(gradient.dtype for gradient in gradients.values())} == {jnp.dtype(dtype)}
    same_numbers = jax.tree.map(lambda array: array.astype(jnp.float32), inputs)
    expected, expected_gradients = run(functools.partial(deform_conv2d, implementation='xla'), same_numbers)
    close(output.astype(jnp.float32), np.asarray(expected), tolerance)
    for name in inputs:
        close(gradients[name].astype(jnp.float32), np.asarray(expected_gradients[name]), tolerance)


def test_it_can_be_mapped_over_inputs_that_share_weights():
    rng = np.random.default_rng(4)
    inputs = [make_inputs(rng, (1, 5, 6, 4), 5, (3, 3), (5, 6)) for _ in range(2)]
    weight, bias = inputs[0].pop('weight'), inputs[0].pop('bias')
    stacked = {name: jnp.stack([each[name] for each in inputs]) for name in inputs[0]}

    def loss(weight, inputs):
        return jnp.sum(jnp.sin(interpreted(**inputs, weight=weight, bias=bias)))

    quick_jit = functools.partial(jax.jit, compiler_options=QUICKLY_COMPILED)
    mapped = quick_jit(jax.grad(lambda weight: jnp.sum(jax.vmap(loss, (None, 0))(weight, stacked))))
    together = {'x': jnp.concatenate(stacked['x']), 'offset': jnp.concatenate(stacked['offset'])}
    close(mapped(weight), np.asarray(quick_jit(jax.grad(loss))(weight, together)))


@pytest.mark.parametrize('modulated', [False, True], ids=['v1', 'v2'])
@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_it_lowers_for_cuda_without_a_column_buffer(dtype, modulated):
    out = (1, 200, 336)
    shapes = [(*out, 256), (*out, 18), (3, 3, 256, 256), (256,), *([(*out, 9)] if modulated else [])]

    def output_and_gradients(*inputs):
        function = functools.partial(triton.deform_conv2d, stride=1, padding=1, dilation=1, offset_groups=1)
        padded = inputs if modulated else (*inputs, None)
        output, pull_back = jax.vjp(functools.partial(function, interpret=False), *padded)
        return output, pull_back(output)

    text = lower_for_cuda(output_and_gradients, *(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))
    for kernel in ('forward', 'input_gradients', 'weight_gradient'):
        assert f'deform_conv2d_{kernel}' in text
    sizes = [math.prod(map(int, shape.split('x')[:-1])) for shape in re.findall(r'tensor<((?:\d+x)+)\w+>', text)]
    assert max(sizes) <= math.prod(shapes[0])


@pytest.mark.parametrize('reach', [0.5, 4.0, 40.0])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_blocks_for_newer_gpus_have_the_same_gradients(dtype, reach):
    """Offsets that stay in the window of a tile, that leave it now and then, and that lead anywhere."""
    inputs = make_inputs(np.random.default_rng(7), (2, 12, 17, 80), 40, (3, 3), (12, 17), modulated=True, reach=reach)
    exact = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
    exact['x'], exact['weight'] = (np.asarray(jnp.asarray(exact[n], dtype), np.float32) for n in ('x', 'weight'))
    typed = exact | {name: jnp.asarray(exact[name], dtype) for name in ('x', 'weight')}

    pull = np.random.default_rng(8).normal(size=(2, 12, 17, 40)).astype(np.float32)

    def gradients(function, inputs):
        return jax.jit(jax.grad(lambda inputs: jnp.sum(pull * function(**inputs))))(inputs)

    expected = gradients(functools.partial(deform_conv2d, implementation='xla'), exact)
    with traced_for(Target('gpu', 'NVIDIA H100', (9, 0))):
        found = gradients(interpreted, typed)
    for name, value in expected.items():
        # bfloat16 keeps eight bits, of samples, of their gradients and of what is summed.
        error = np.abs(np.asarray(found[name], np.float32) - value).max() / np.abs(value).max()
        assert error < (2e-5 if dtype == 'float32' else 1e-2), name


@pytest.mark.parametrize('precision', ['default', 'highest'])
def test_products_of_float32_are_as_precise_as_the_caller_asks(precision):
    inputs = make_inputs(np.random.default_rng(5), (1, 4, 4, 2), 2, (3, 3), (4, 4))
    with jax.default_matmul_precision(precision):
        program = str(jax.make_jaxpr(jax.grad(lambda inputs: jnp.sum(interpreted(**inputs) ** 2)))(inputs))
    # One product in each of the three kernels, and one with the window.
    assert len(re.findall(rf'precision=\(?[\w.]*{precision}', program, re.IGNORECASE)) == 4

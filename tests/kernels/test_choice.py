"""Which implementation runs where: the same rules for every operator."""

import sys
import warnings

import jax
import jax.numpy as jnp
import pytest

from sognet_jax.kernels import choice
from sognet_jax.kernels.choice import ANYWHERE, INTERPRETED, TRITON, XLA, Target, traced_for
from sognet_jax.kernels.deform_conv import deform_conv2d
from sognet_jax.kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.kernels.roi_align import chosen_implementation, roi_align
from tests.support.panoptic_fusion import random_scene

H100 = Target('gpu', 'NVIDIA H100', (9, 0))
L4 = Target('gpu', 'NVIDIA L4', (8, 9), 58, 101_376)
T4 = Target('gpu', 'Tesla T4', (7, 5), 40, 65_536)
OTHER = Target('gpu', 'AMD Instinct')


def deform_conv(implementation, dtype='float32'):
    x, weight = jnp.zeros((1, 4, 4, 2), dtype), jnp.zeros((3, 3, 2, 2), dtype)
    return deform_conv2d(x, jnp.zeros((1, 4, 4, 18)), weight, implementation=implementation)


def pool(implementation, dtype='float32'):
    boxes, level = jnp.ones((1, 3, 4)), jnp.zeros((1, 3), jnp.int32)
    features = [jnp.zeros((1, 8, 8, 4), dtype)]
    return roi_align(features, boxes, level, strides=(4,), output_size=7, implementation=implementation)


def fuse(implementation, dtype='float32'):
    del dtype  # it reads everything as float32
    scene = jax.tree.map(jnp.asarray, random_scene(0))
    return panoptic_fusion(**scene, size=(40, 48), num_stuff=3, implementation=implementation)


OPERATORS = {'deform_conv2d': deform_conv, 'roi_align': pool, 'panoptic_fusion': fuse}
every_operator = pytest.mark.parametrize('operator', OPERATORS)


@pytest.fixture(autouse=True)
def said_anew():
    choice._warn_once.cache_clear()


def becomes_kernel(operator, target, implementation=None, dtype='float32'):
    with traced_for(target):
        return 'pallas_call' in str(jax.make_jaxpr(lambda: OPERATORS[operator](implementation, dtype))())


@every_operator
@pytest.mark.parametrize('target', [H100, L4])
def test_on_a_gpu_the_kernel_runs(operator, target):
    assert becomes_kernel(operator, target)
    assert not becomes_kernel(operator, target, XLA)


@every_operator
@pytest.mark.parametrize('target', [T4, OTHER])
def test_on_a_gpu_for_which_triton_does_not_compile_the_reference_runs_which_is_said_once(operator, target):
    with pytest.warns(UserWarning, match=f'{operator} runs in plain XLA.*{target.name} is no NVIDIA GPU of .* 8.0'):
        assert not becomes_kernel(operator, target)
    with warnings.catch_warnings(action='error'):
        assert not becomes_kernel(operator, target)
    with pytest.raises(ValueError, match=f'{operator}: implementation .triton. cannot run: {target.name} is no NVIDIA'):
        becomes_kernel(operator, target, TRITON)


@every_operator
@pytest.mark.parametrize('target', [Target('cpu'), Target('tpu'), ANYWHERE])
def test_elsewhere_the_reference_runs_without_a_word(operator, target):
    with warnings.catch_warnings(action='error'):
        assert not becomes_kernel(operator, target)
    with pytest.raises(ValueError, match=f'cannot run: it needs a GPU, this is {target.platform}'):
        becomes_kernel(operator, target, TRITON)
    assert becomes_kernel(operator, target, INTERPRETED)


@every_operator
def test_where_jax_has_no_triton_the_reference_runs(operator, monkeypatch):
    monkeypatch.setitem(sys.modules, 'jax.experimental.pallas.triton', None)
    with pytest.warns(UserWarning, match='JAX .* has no Triton for Pallas'):
        assert not becomes_kernel(operator, H100)
    with pytest.raises(ValueError, match='cannot run: JAX .* has no Triton'):
        becomes_kernel(operator, Target('cpu'), INTERPRETED)


@every_operator
def test_unknown_names_are_refused(operator):
    with pytest.raises(ValueError, match=f"{operator} has the implementations .*, not 'magic'"):
        OPERATORS[operator]('magic')


@pytest.mark.parametrize(('operator', 'name'), [('deform_conv2d', 'x'), ('roi_align', 'features')])
def test_types_that_no_kernel_reads_are_refused(operator, name):
    with pytest.raises(ValueError, match=f'{name} is int8, not float32, bfloat16 or float16'):
        becomes_kernel(operator, H100, TRITON, 'int8')


def test_operands_have_one_type():
    x, weight = jnp.zeros((1, 4, 4, 2), jnp.bfloat16), jnp.zeros((3, 3, 2, 2))
    with pytest.raises(ValueError, match='x is bfloat16 and weight is float32: they must have one type'):
        deform_conv2d(x, jnp.zeros((1, 4, 4, 18)), weight, implementation=INTERPRETED)


@pytest.mark.parametrize(
    ('target', 'side', 'dtype', 'chosen'),
    [
        (Target('cpu'), 64, 'float32', 'matmul'), (Target('cpu'), 65, 'float32', 'windows'),
        (Target('tpu'), 65, 'float32', XLA), (H100, 64, 'float32', TRITON), (ANYWHERE, 65, 'float32', XLA),
    ],
)  # fmt: skip
def test_pooling_goes_by_the_size_of_the_pyramid_where_no_kernel_runs(target, side, dtype, chosen):
    with traced_for(target):
        assert chosen_implementation([jax.ShapeDtypeStruct((1, side, side, 4), dtype)]) == chosen


def test_a_device_is_asked_what_it_is():
    class Device:
        platform, device_kind = 'gpu', 'NVIDIA L4'
        compute_capability, core_count, shared_memory_per_block_optin = '8.9', 58, 101_376

    assert Target.of(Device()) == L4
    Device.compute_capability = 'gfx942'
    assert Target.of(Device()).capability == (0, 0)
    assert Target.of(jax.devices()[0]).platform == 'cpu'

"""The GPU kernel in Pallas's interpreter against the reference, and lowered for CUDA at a real size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.kernels.panoptic_fusion import triton
from sognet_jax.kernels.panoptic_fusion.painting import Inputs, Options
from tests.support.lowering import lower_for_cuda
from tests.support.panoptic_fusion import fuse, naive_fusion, random_scene

pytestmark = pytest.mark.compiles

INTERPRETED = 'triton_interpreted'

# Some instances in some tiles, all in none; as published, and all that may differ from it.
OPTIONS = [
    {'head': 2, 'resolve': 'sequential', 'outside': 'zero', 'void_channel': False},
    {'head': 1, 'resolve': 'joint', 'outside': 'zero', 'void_channel': True},
    {'head': 2, 'resolve': 'sequential', 'outside': 'absent', 'void_channel': True},
    {'head': 2, 'resolve': 'joint', 'outside': 'absent', 'void_channel': False},
]


@pytest.fixture
def one_capacity(monkeypatch):
    """Compiling for several takes the time, not running."""
    monkeypatch.setattr(triton, 'CAPACITIES', (16,))


@pytest.mark.usefixtures('one_capacity')
@pytest.mark.parametrize('options', OPTIONS)
def test_equals_loop(options):
    scene = random_scene(4, count=12)
    ids = np.asarray(fuse(scene, implementation=INTERPRETED, balance=1.5, **options))
    wanted, is_clear = naive_fusion(scene, (40, 48), balance=1.5, **options)
    assert is_clear.mean() > 0.99
    np.testing.assert_array_equal(ids[is_clear], wanted[is_clear])


@pytest.mark.parametrize('resolve', ['joint', 'sequential'])
def test_every_capacity(resolve):
    """Tiles with few instances, with more than 16 and with more than 32, and an image that no tile fits."""
    scene, size = random_scene(1, count=50), (20, 36)
    scene['boxes'][:35] = scene['boxes'][:35] * 0.4 + 14
    scene['boxes'][35:] = scene['boxes'][35:] * 0.3
    scene['valid'][:] = True
    scene['semantic'] = scene['semantic'][:5, :9]
    scene['relations'] *= 0.2
    ids = np.asarray(fuse(scene, size, implementation=INTERPRETED, resolve=resolve))
    wanted, is_clear = naive_fusion(scene, size, 2, 2.0, resolve, 'zero')
    assert is_clear.mean() > 0.99
    np.testing.assert_array_equal(ids[is_clear], wanted[is_clear])


@pytest.mark.usefixtures('one_capacity')
def test_vmap_equals_one_by_one():
    size = (16, 24)
    scenes = [random_scene(seed, size=size) for seed in range(2)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *scenes)
    paint = functools.partial(fuse, size=size, implementation=INTERPRETED)
    together = jax.vmap(paint)(batch)
    for index, scene in enumerate(scenes):
        np.testing.assert_array_equal(together[index], paint(scene))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('options', OPTIONS)
def test_lowers_for_cuda(options, dtype):
    count, size = 100, (800, 1344)
    inputs = Inputs(
        mask_logits=jax.ShapeDtypeStruct((count, 28, 28), dtype),
        boxes=jax.ShapeDtypeStruct((count, 4), jnp.float32),
        classes=jax.ShapeDtypeStruct((count,), jnp.int32),
        valid=jax.ShapeDtypeStruct((count,), bool),
        relations=jax.ShapeDtypeStruct((count, count), jnp.float32),
        semantic=jax.ShapeDtypeStruct((200, 336, 133), dtype),
        partners=jax.ShapeDtypeStruct((count,), jnp.int32),
    )

    def paint(*arrays):
        return triton.panoptic_fusion(Inputs(*arrays), size, Options(53, balance=2.0, **options), interpret=False)

    assert '__gpu$xla.gpu.triton' in lower_for_cuda(paint, *inputs)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.stepwise_fusion import draw_scene, fuse_stepwise
from sognet_jax.ops import tiles
from sognet_jax.ops.overlap import resolve_overlaps
from tests.support import golden_files
from tests.support.golden_files import SHIFT
from tests.support.panoptic_fusion import PASTE, RESIZE, STUFF, THINGS, fuse, naive_fusion, random_scene
from tests.support.sequential import resolve_overlaps_sequential

pytestmark = pytest.mark.compiles


@pytest.mark.parametrize('outside', ['zero', 'absent'])
@pytest.mark.parametrize('resolve', ['joint', 'sequential'])
@pytest.mark.parametrize('head', [1, 2])
def test_equals_loop(head, resolve, outside):
    scene = random_scene(head)
    ids = np.asarray(fuse(scene, head=head, resolve=resolve, outside=outside, balance=1.5))
    wanted, is_clear = naive_fusion(scene, (40, 48), head, 1.5, resolve, outside)
    assert is_clear.mean() > 0.99
    np.testing.assert_array_equal(ids[is_clear], wanted[is_clear])


@pytest.mark.parametrize('seed', range(3))
def test_void_is_where_a_thing_is_seen_but_no_instance_of_it(seed):
    scene = random_scene(seed)
    if seed == 2:
        scene['valid'][:] = False
        scene['relations'][:] = 0
    arguments = {'head': 2, 'resolve': 'joint', 'outside': 'absent', 'balance': 2.0, 'void_channel': True}
    ids = np.asarray(fuse(scene, **arguments))
    wanted, is_clear = naive_fusion(scene, (40, 48), **arguments)
    np.testing.assert_array_equal(ids[is_clear], wanted[is_clear])
    assert 0.02 < (ids == -1).mean() < 0.9


@pytest.mark.parametrize('tile', [(4, 8), (20, 12), (64, 64)])
@pytest.mark.parametrize(
    'options',
    [
        {'resolve': 'joint', 'outside': 'zero', 'void_channel': True},
        {'resolve': 'sequential', 'outside': 'zero'},
        {'resolve': 'sequential', 'outside': 'absent'},
    ],
)
def test_tiles_do_not_show(options, tile, monkeypatch):
    """Most instances touch few of the tiles, and reach into the others as the published code has it."""
    monkeypatch.setattr(tiles, 'TILE', tile)
    scene = random_scene(4, count=12)
    ids = np.asarray(fuse(scene, **options))
    wanted, is_clear = naive_fusion(scene, (40, 48), 2, 2.0, **options)
    assert is_clear.mean() > 0.99
    np.testing.assert_array_equal(ids[is_clear], wanted[is_clear])


@pytest.mark.parametrize('resolve', ['joint', 'sequential'])
def test_equals_the_step_by_step_formulation(resolve):
    """More instances than any capacity in tiles that all of them cover, and tiles where none is."""
    size, count = (96, 256), 40
    scene = draw_scene(0, count, size, STUFF, THINGS)
    scene['boxes'][:, [0, 2]] = scene['boxes'][:, [0, 2]] * 0.2 + 10
    scene['boxes'][:, 3] += 50
    wanted = fuse_stepwise(**scene, size=size, num_stuff=STUFF, resolve=resolve)
    ids = np.asarray(fuse(scene, size, resolve=resolve))
    assert len(np.unique(wanted)) > 12
    # Single pixels may differ where two logits are equal but for rounding.
    assert np.mean(ids != wanted) < 1e-3


def test_two_that_cover_each_other_are_weakened_at_once():
    scene = random_scene(5)
    scene['relations'] = np.where(np.eye(6), 0, np.random.default_rng(5).uniform(0.2, 1, (6, 6))).astype(np.float32)
    scene['relations'] *= scene['valid'] * scene['valid'][:, None]
    ids = np.asarray(fuse(scene, resolve='sequential'))
    wanted, is_clear = naive_fusion(scene, (40, 48), 2, 2.0, 'sequential', 'zero')
    np.testing.assert_array_equal(ids[is_clear], wanted[is_clear])


def test_vmap_equals_one_by_one():
    scenes = [random_scene(seed) for seed in range(3)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *scenes)
    together = jax.vmap(fuse)(batch)
    for index, scene in enumerate(scenes):
        np.testing.assert_array_equal(together[index], fuse(scene))


def test_empty_slots_win_nothing():
    scene = random_scene(0) | {'valid': np.zeros(6, bool)}
    ids = np.asarray(fuse(scene))
    semantic = RESIZE(scene['semantic'], (40, 48))
    np.testing.assert_array_equal(ids, np.argmax(semantic[..., :STUFF], axis=-1))


def test_covering_instance_wins_the_intersection():
    scene = random_scene(0, count=2)
    scene |= {
        'mask_logits': np.stack([np.full((28, 28), 4.0), np.full((28, 28), 3.5)]).astype(np.float32),
        'boxes': np.array([[4, 4, 30, 30], [12, 12, 38, 38]], np.float32),
        'valid': np.ones(2, bool),
        'semantic': np.zeros((10, 12, STUFF + THINGS), np.float32),
        'partners': np.ones(2, np.int32),
    }
    for front in (0, 1):
        relations = np.zeros((2, 2), np.float32)
        relations[1 - front, front] = 1  # the other one is covered by `front`
        ids = np.asarray(fuse(scene | {'relations': relations}))
        assert np.all(ids[12:29, 12:29] == STUFF + front)
        assert ids[6, 6] == STUFF
        assert ids[35, 35] == STUFF + 1


@golden_files.parametrize('model_infer_a_panoptic')
def test_pasting_and_resolving_match_published(golden_path):
    golden = golden_files.load(golden_path)
    kept = golden['keep_inds'][golden['new_index']]
    boxes = jnp.array(golden['pan_boxes'][kept, 1:] + SHIFT)
    pasted, _ = PASTE(jnp.array(golden['pan_mask_logits'][kept]), boxes, (192, 256))
    sub = np.s_[:, ::4, ::4]
    np.testing.assert_allclose(pasted[sub], golden['mask_logits_before_sub'][0], atol=1e-4)
    count = int(golden['non_zero_num'])
    relations = np.zeros((len(kept), len(kept)), np.float32)
    relations[:count, :count] = golden['O_joint']
    joint = jax.jit(resolve_overlaps)(pasted[sub], jnp.array(relations))
    np.testing.assert_allclose(joint, golden['mask_logits_joint_sub'][0], atol=1e-3)
    sequential = jax.jit(resolve_overlaps_sequential)(pasted[sub], jnp.array(relations))
    np.testing.assert_allclose(sequential, golden['mask_logits_sequential_sub'][0], atol=1e-3)


def test_errors():
    scene = random_scene(0)
    with pytest.raises(ValueError, match='head must be 1'):
        fuse(scene, head=3)
    with pytest.raises(ValueError, match="'joint' or 'sequential'"):
        fuse(scene, resolve='pairwise')
    with pytest.raises(ValueError, match="'zero' or 'absent'"):
        fuse(scene, outside='half')
    with pytest.raises(ValueError, match='one integer times'):
        fuse(scene, size=(41, 48))
    with pytest.raises(ValueError, match="'xla'.*'tpu'"):
        fuse(scene, implementation='tpu')

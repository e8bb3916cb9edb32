import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.kernels.mask_statistics import mask_statistics
from sognet_jax.ops import tiles
from sognet_jax.ops.masks import paste_masks
from tests.support import golden_files
from tests.support.golden_files import SHIFT

pytestmark = pytest.mark.compiles


def select(*arrays, **options):
    return jax.jit(functools.partial(mask_statistics, **options))(*arrays)


@golden_files.parametrize('mask_removal')
def test_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    if nothing_detected(golden):
        keep, ratio = select(
            jnp.array(golden['mask_logits'][:, 0]), jnp.array(golden['boxes'] + SHIFT), jnp.zeros(1, int),
            jnp.zeros(1, bool), jnp.array(golden['im_shape']), size=tuple(golden['im_shape'].tolist()), num_classes=80,
        )  # fmt: skip
        assert not np.any(keep) and not np.any(ratio)
        return
    order = np.argsort(-golden['scores'], kind='stable')
    count = len(order)
    keep, ratio = select(
        jnp.array(golden['mask_logits'][order, 0]), jnp.array(golden['boxes'][order] + SHIFT),
        jnp.array(golden['cls_idx'][order] - 1), jnp.ones(count, bool), jnp.array(golden['im_info'][0, :2]),
        size=tuple(golden['im_shape'].tolist()), num_classes=80,
    )  # fmt: skip
    kept = np.flatnonzero(keep)
    np.testing.assert_array_equal(order[kept], golden['keep_inds'])
    ratio = np.asarray(ratio)[np.ix_(kept, kept)]
    np.testing.assert_allclose(ratio, golden['overlap_ratio'], atol=1e-5)
    partners = np.sum(ratio > 0.1, axis=1)
    np.testing.assert_array_equal(partners, golden['indicator'])
    np.testing.assert_array_equal(np.argsort(-partners, kind='stable'), golden['new_index'])
    assert np.sum(partners > 0) == golden['non_zero_num']


@golden_files.parametrize('mask_removal')
def test_pasting_matches_published(golden_path):
    """The full-resolution logits that the removal and the fusion are based on."""
    golden = golden_files.load(golden_path)
    kept = golden['keep_inds']
    size = tuple(golden['im_shape'].tolist())
    if nothing_detected(golden):
        assert not golden['energy'].any()
        return
    corners = tiles.pasted_corners(jnp.array(golden['boxes'][kept] + SHIFT))
    pasted, _ = jax.jit(tiles.paste_in_tile, static_argnums=2)(golden['mask_logits'][kept, 0], corners, size)
    np.testing.assert_allclose(pasted, golden['energy'][0], atol=1e-4)


def nothing_detected(golden):
    """The published code goes on with one stand-in of class 0 whose logits are all 0; here there is no instance."""
    return not golden['cls_idx'].any()


def naive(logits, boxes, classes, valid, image_size, size, threshold):
    masks = np.asarray(jax.jit(paste_masks, static_argnums=2)(logits, boxes, size)[0]) > 0
    taken = {label: np.zeros(size, bool) for label in range(100)}
    keep = np.zeros(len(boxes), bool)
    for i in np.flatnonzero(valid):
        area, covered = masks[i].sum(), (masks[i] & taken[classes[i]]).sum()
        keep[i] = area > 0 and covered / area <= threshold
        if keep[i]:
            taken[classes[i]] |= masks[i]
    masks[:, image_size[0] :] = False
    masks[:, :, image_size[1] :] = False
    ratio = np.zeros((len(boxes), len(boxes)))
    for i in np.flatnonzero(valid):
        for j in np.flatnonzero(valid):
            smaller = min(masks[i].sum(), masks[j].sum())
            ratio[i, j] = (masks[i] & masks[j]).sum() / smaller if smaller and i != j else 0
    return keep, ratio


def random_instances(seed: int, count: int = 12, num_classes: int = 40):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-5, 40, (count, 2)), rng.uniform(3, 40, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    logits = rng.normal(0.5, 2, (count, 28, 28)).astype(np.float32)
    logits[3] = -1  # an empty mask
    classes = rng.choice(num_classes, 3, replace=False)[rng.integers(0, 3, count)]
    return logits, boxes, classes, rng.uniform(size=count) < 0.8


@pytest.mark.parametrize('tile', [tiles.TILE, (5, 32), (64, 96)])
@pytest.mark.parametrize('seed', range(2))
def test_equals_loop(seed, tile, monkeypatch):
    monkeypatch.setattr(tiles, 'TILE', tile)
    logits, boxes, classes, valid = random_instances(seed)
    size, image_size = (48, 56), np.array([44, 50])
    keep, ratio = select(
        jnp.array(logits), jnp.array(boxes), jnp.array(classes), jnp.array(valid), jnp.array(image_size),
        size=size, num_classes=40, threshold=0.5,
    )  # fmt: skip
    wanted_keep, wanted_ratio = naive(logits, boxes, classes, valid, image_size, size, 0.5)
    np.testing.assert_array_equal(keep, wanted_keep)
    np.testing.assert_allclose(ratio, wanted_ratio, atol=1e-6)


def test_vmap_equals_one_by_one():
    scenes = [random_instances(seed) for seed in range(3)]
    batch = [jnp.stack([jnp.array(scene[k]) for scene in scenes]) for k in range(4)]
    sizes = jnp.array([[48, 56], [40, 56], [48, 30]])

    def one(logits, boxes, classes, valid, image_size):
        return mask_statistics(logits, boxes, classes, valid, image_size, (48, 56), num_classes=40)

    one = jax.jit(one)
    keep, ratio = jax.jit(jax.vmap(one))(*batch, sizes)
    for index, scene in enumerate(scenes):
        alone = one(*scene, sizes[index])
        np.testing.assert_array_equal(keep[index], alone[0])
        np.testing.assert_allclose(ratio[index], alone[1], atol=1e-6)


def test_unknown_implementation():
    logits, boxes, classes, valid = map(jnp.array, random_instances(0))
    with pytest.raises(ValueError, match="'xla'.*'cuda'"):
        mask_statistics(
            logits, boxes, classes, valid, jnp.array([48, 56]), (48, 56), num_classes=40, implementation='cuda'
        )

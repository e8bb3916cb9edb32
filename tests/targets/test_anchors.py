import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax import losses
from sognet_jax.ops.anchors import anchor_grid
from sognet_jax.targets.anchors import label_anchors
from tests.support import golden_files

STRIDES = (4, 8, 16, 32, 64)


def all_anchors(height: int, width: int) -> np.ndarray:
    grids = [anchor_grid(-(-height // stride), -(-width // stride), stride).reshape(-1, 4) for stride in STRIDES]
    return np.concatenate(grids)


def all_levels(golden: dict[str, np.ndarray], name: str, size: int) -> np.ndarray:
    """Published [1, A * size, h, w] per level -> [n, size] in the order (level, row, column, anchor)."""
    levels = []
    for stride in STRIDES:
        level = golden[f'{name}_{stride}'][0]
        level = level.reshape(-1, size, *level.shape[1:])
        levels.append(level.transpose(2, 3, 0, 1).reshape(-1, size))
    return np.concatenate(levels)


def published_boxes(golden: dict[str, np.ndarray]) -> np.ndarray:
    return golden['gt_boxes_orig'] * golden['im_scale'] + np.array([0, 0, 1, 1], np.float32)


@golden_files.parametrize('rpn_target')
def test_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    anchors = all_anchors(*golden['padded_hw'])
    assign = jax.jit(label_anchors, static_argnames='batch_size')
    labels, targets = assign(
        anchors, published_boxes(golden), golden['is_crowd'] == 0, golden['im_info'][0, :2],
        batch_size=int(golden['rpn_batch_size']), priority=jnp.arange(len(anchors)),
    )  # fmt: skip
    np.testing.assert_array_equal(labels, all_levels(golden, 'labels', 1)[:, 0])
    assert [np.sum(labels == 1), np.sum(labels == 0)] == list(golden['num_fg_bg'])
    np.testing.assert_allclose(targets, all_levels(golden, 'targets', 4), atol=2e-5)


@golden_files.parametrize('rpn_target')
def test_weights_of_the_box_loss_match_published(golden_path):
    golden = golden_files.load(golden_path)
    labels = all_levels(golden, 'labels', 1)[:, 0]
    deltas = jnp.full((len(labels), 4), 2.0)
    gradient = jax.jit(jax.grad(losses.rpn_box_loss))(deltas, jnp.zeros_like(deltas), labels)
    np.testing.assert_allclose(gradient, all_levels(golden, 'outside', 4) * all_levels(golden, 'inside', 4), rtol=1e-6)


def random_scene(seed: int, count: int = 5) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 90, (count, 2)), rng.uniform(10, 60, (count, 2))
    boxes = np.concatenate([corner, np.minimum(corner + size, 128)], axis=1).astype(np.float32)
    return jnp.array(boxes), jnp.array(rng.uniform(size=count) < 0.7)


def label(boxes, valid, seed, image_size=(120, 110), batch_size=64):
    anchors = jnp.array(all_anchors(128, 128))
    priority = jax.random.uniform(jax.random.key(seed), anchors.shape[:1])
    return anchors, *jax.jit(label_anchors, static_argnames='batch_size')(
        anchors, boxes, valid, jnp.array(image_size), batch_size=batch_size, priority=priority
    )


@pytest.mark.parametrize('seed', range(4))
def test_random_sample_keeps_the_rules(seed):
    boxes, valid = random_scene(seed)
    anchors, labels, targets = map(np.asarray, label(boxes, valid, seed))
    assert np.sum(labels == 1) <= 32
    assert np.sum(labels >= 0) == 64
    used = anchors[labels >= 0]
    assert np.all(used[:, :2] >= 0)
    assert np.all(used[:, 2] - 1 < 110)
    assert np.all(used[:, 3] - 1 < 120)
    assert np.all(np.isfinite(targets))
    assert not np.any(targets[labels != 1])


def test_another_priority_gives_another_sample():
    boxes, valid = random_scene(0)
    first, second = (label(boxes, valid, seed)[1] for seed in (0, 1))
    assert np.any(first != second)
    np.testing.assert_array_equal(first, label(boxes, valid, 0)[1])


def test_invalid_boxes_do_not_matter():
    boxes, valid = random_scene(1)
    _, labels, targets = label(boxes, valid, 0)
    _, other_labels, other_targets = label(jnp.where(valid[:, None], boxes, jnp.nan), valid, 0)
    np.testing.assert_array_equal(labels, other_labels)
    np.testing.assert_array_equal(targets, other_targets)


def test_no_boxes_gives_background_alone():
    _, labels, targets = label(jnp.zeros((3, 4)), jnp.zeros(3, bool), 0)
    assert np.sum(labels == 1) == 0
    assert np.sum(labels == 0) == 64
    assert not np.any(targets)


def test_vmap_equals_one_by_one():
    anchors = jnp.array(all_anchors(128, 128))
    scenes = [random_scene(seed) for seed in range(3)]
    priority = jax.random.uniform(jax.random.key(0), (3, len(anchors)))
    size = jnp.array([128, 128])

    @jax.jit
    def one(boxes, valid, priority):
        return label_anchors(anchors, boxes, valid, size, batch_size=64, priority=priority)

    boxes, valid = (jnp.stack(arrays) for arrays in zip(*scenes, strict=True))
    labels, targets = jax.jit(jax.vmap(one))(boxes, valid, priority)
    for index in range(3):
        one_labels, one_targets = one(boxes[index], valid[index], priority[index])
        np.testing.assert_array_equal(labels[index], one_labels)
        np.testing.assert_allclose(targets[index], one_targets, rtol=1e-5, atol=1e-6)

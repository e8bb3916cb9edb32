import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.ops.anchors import anchor_grid
from sognet_jax.ops.proposals import propose_boxes
from tests.support import golden_files
from tests.support.golden_files import SHIFT

STRIDES = (4, 8, 16, 32, 64)

propose = jax.jit(propose_boxes, static_argnames=('pre_nms', 'post_nms'))


def published_inputs(golden):
    scores, deltas, anchors = [], [], []
    for stride in STRIDES:
        probability, offsets = golden[f'prob_{stride}'][0], golden[f'pred_{stride}'][0]
        height, width = probability.shape[1:]
        scores.append(jnp.array(probability.transpose(1, 2, 0).reshape(-1)))
        deltas.append(jnp.array(offsets.reshape(-1, 4, height, width).transpose(2, 3, 0, 1).reshape(-1, 4)))
        anchors.append(anchor_grid(height, width, stride).reshape(-1, 4))
    return scores, deltas, anchors


@golden_files.parametrize('proposals')
def test_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    boxes, scores, valid = propose(
        *published_inputs(golden), golden['im_info'][0, :2], pre_nms=int(golden['pre']), post_nms=int(golden['post'])
    )
    count = len(golden['scores'])
    assert valid.sum() == count
    np.testing.assert_allclose(scores[:count], golden['scores'], rtol=1e-6)
    np.testing.assert_allclose(boxes[:count] - SHIFT, golden['rois'][:, 1:], rtol=1e-4, atol=2e-3)


def random_levels(seed: int):
    rng = np.random.default_rng(seed)
    anchors = [anchor_grid(64 // stride, 64 // stride, stride).reshape(-1, 4) for stride in STRIDES]
    scores = [jnp.array(rng.normal(size=len(level)), jnp.float32) for level in anchors]
    deltas = [jnp.array(rng.normal(0, 0.3, (len(level), 4)), jnp.float32) for level in anchors]
    return scores, deltas, anchors


def naive_iou(a, b):
    overlap = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap)


@pytest.mark.parametrize('post_nms', [20, 4000])
def test_properties(post_nms):
    scores, deltas, anchors = random_levels(0)
    boxes, best, valid = propose(scores, deltas, anchors, jnp.array([50, 60]), pre_nms=100, post_nms=post_nms)
    assert boxes.shape == (post_nms, 4)
    real = np.asarray(boxes)[np.asarray(valid)]
    assert np.all(np.diff(np.asarray(best)[np.asarray(valid)]) <= 0)
    assert np.all(real[:, :2] >= 0)
    assert np.all(real[:, 2:] <= [60, 50])
    assert not np.any(np.asarray(boxes)[~np.asarray(valid)])
    assert np.all(np.isfinite(boxes))
    np.testing.assert_allclose(best[0], max(level.max() for level in scores))


def test_suppression_is_per_level():
    box = jnp.array([[10.0, 10.0, 30.0, 30.0]])
    none = jnp.zeros((1, 4))
    scores = [jnp.array([1.0]), jnp.array([0.5])]
    _, best, valid = propose(scores, [none, none], [box, box], jnp.array([64, 64]), pre_nms=5, post_nms=3)
    np.testing.assert_array_equal(valid, [True, True, False])
    np.testing.assert_allclose(best[:2], [1.0, 0.5])


def test_vmap_equals_one_by_one():
    levels = [random_levels(seed) for seed in range(2)]
    anchors = levels[0][2]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *[(scores, deltas) for scores, deltas, _ in levels])

    @jax.jit
    def one(scores, deltas):
        return propose_boxes(scores, deltas, anchors, jnp.array([64, 64]), pre_nms=50, post_nms=30)

    batched = jax.jit(jax.vmap(one))(*stacked)
    for index, (scores, deltas, _) in enumerate(levels):
        for many, alone in zip(batched, one(scores, deltas), strict=True):
            np.testing.assert_allclose(many[index], alone, rtol=1e-5, atol=1e-4)

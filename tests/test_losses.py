import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sognet_jax import losses
from sognet_jax.contract import SEMANTIC_IGNORE
from sognet_jax.ops.overlap import overlap_relations
from tests.support import golden_files

STRIDES = (4, 8, 16, 32, 64)


def value_and_gradient(function, *arguments):
    return jax.jit(jax.value_and_grad(function))(*arguments)


def flatten_anchors(level: np.ndarray, size: int) -> np.ndarray:
    """[1, A * size, h, w] in the published layout -> [h * w * A, size] in the order (row, column, anchor)."""
    _, channels, height, width = level.shape
    level = level.reshape(channels // size, size, height, width)
    return np.moveaxis(level, (0, 1), (2, 3)).reshape(-1, size)


def all_levels(golden: dict[str, np.ndarray], name: str, size: int) -> np.ndarray:
    flat = np.concatenate([flatten_anchors(golden[f'{name}_{stride}'], size) for stride in STRIDES])
    return flat if size > 1 else flat[:, 0]


@golden_files.parametrize('rpn_target')
def test_rpn_losses_match_published(golden_path):
    golden = golden_files.load(golden_path)
    scores, labels = all_levels(golden, 'score', 1), all_levels(golden, 'labels', 1)
    deltas, targets = all_levels(golden, 'pred', 4), all_levels(golden, 'targets', 4)
    batch_size = int(golden['rpn_batch_size'])

    score_loss, score_gradient = value_and_gradient(losses.rpn_score_loss, jnp.array(scores), labels, batch_size)
    box_loss, box_gradient = value_and_gradient(losses.rpn_box_loss, jnp.array(deltas), targets, labels)

    np.testing.assert_allclose(score_loss, golden['rpn_cls_loss'], rtol=1e-5)
    np.testing.assert_allclose(box_loss, golden['rpn_bbox_loss'], rtol=1e-5)
    sizes = [golden[f'score_{stride}'].size for stride in STRIDES]
    at_16 = slice(sum(sizes[:2]), sum(sizes[:3]))
    wanted = flatten_anchors(golden['grad_score_16'], 1)[:, 0]
    np.testing.assert_allclose(score_gradient[at_16], wanted, rtol=1e-4, atol=1e-8)
    wanted = flatten_anchors(golden['grad_pred_16'], 4)
    np.testing.assert_allclose(box_gradient[at_16], wanted, rtol=1e-4, atol=1e-8)


@golden_files.parametrize('proposal_target')
def test_box_losses_match_published(golden_path):
    golden = golden_files.load(golden_path)
    labels, own = golden['out_labels'], golden['pred_bbox_own_class']
    valid = np.ones(labels.shape, bool)
    num_things = golden['pred_cls_score'].shape[1] - 1
    rows = np.flatnonzero(labels > 0)
    deltas = np.zeros((len(labels), num_things, 4), np.float32)
    deltas[rows, labels[rows] - 1] = own[rows]

    loss, gradient = value_and_gradient(losses.box_class_loss, jnp.array(golden['pred_cls_score']), labels, valid)
    np.testing.assert_allclose(loss, golden['cls_loss'], rtol=1e-5)
    np.testing.assert_allclose(gradient, golden['grad_cls_score'], rtol=1e-4, atol=1e-8)

    targets = golden['out_bbox_targets']
    loss, gradient = value_and_gradient(losses.box_delta_loss, jnp.array(deltas), targets, labels, valid)
    np.testing.assert_allclose(loss, golden['bbox_loss'], rtol=1e-5)
    np.testing.assert_allclose(gradient[rows, labels[rows] - 1], golden['grad_bbox_own_class'][rows], atol=1e-7)
    assert np.count_nonzero(gradient) == np.count_nonzero(golden['grad_bbox_own_class'])


@golden_files.parametrize('proposal_target')
def test_mask_loss_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    logits, targets = jnp.array(golden['pred_mask_own_class']), golden['mask_target']
    foreground = np.ones(len(targets), bool)
    loss, gradient = value_and_gradient(losses.mask_loss, logits, targets, foreground)
    np.testing.assert_allclose(loss, golden['mask_loss'], rtol=1e-5)
    np.testing.assert_allclose(gradient, golden['grad_mask_own_class'], rtol=1e-4, atol=1e-9)


@golden_files.parametrize('panoptic_train')
@pytest.mark.parametrize('head', [1, 2])
def test_panoptic_loss_matches_published(golden_path, head):
    golden = golden_files.load(golden_path)
    instances = golden[f'panoptic_inst_logits_ph{head}'][0]
    logits = np.concatenate([golden['fcn_score'][0, :53], instances]).transpose(1, 2, 0)
    labels = np.where(golden['panoptic_gt'][0] == 255, -1, golden['panoptic_gt'][0])

    loss, gradient = value_and_gradient(losses.panoptic_loss, jnp.array(logits), labels)
    np.testing.assert_allclose(loss, golden[f'panoptic_loss_ph{head}'], rtol=1e-5, atol=1e-6)
    per_pixel = np.where(labels >= 0, jax.jit(losses.cross_entropy)(logits, labels), 0)
    np.testing.assert_allclose(per_pixel, golden[f'panoptic_loss_map_ph{head}'][0], rtol=1e-5, atol=1e-5)
    # The stuff logits reach the loss through nothing but the soft-max.
    gradient = gradient[..., :53:12]
    wanted = golden[f'grad_fcn_score_ph{head}'][0, : gradient.shape[-1]].transpose(1, 2, 0)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-8)


@golden_files.parametrize('relation_head')
def test_overlap_relation_loss_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    takes_part = np.ones(len(golden['O']), bool)
    loss = jax.jit(losses.overlap_relation_loss)(golden['O'], golden['relation_gt'] > 0, takes_part)
    np.testing.assert_allclose(loss, golden['relation_loss'], rtol=1e-5)


@golden_files.parametrize('panoptic_train')
def test_overlap_relation_loss_counts_overlapping_instances_only(golden_path):
    golden = golden_files.load(golden_path)
    overlap = golden['relation_gt_full'] > 0
    takes_part = overlap.any(axis=1)
    relations = np.full(overlap.shape, np.inf, np.float32)  # what does not take part must not matter
    if takes_part.any():
        order = golden['new_index'][: int(golden['non_zero_num'])]
        relations[np.ix_(order, order)] = golden['O']
    loss = jax.jit(losses.overlap_relation_loss)(jnp.array(relations), overlap, takes_part)
    np.testing.assert_allclose(loss, golden['relation_loss'], rtol=1e-5)


def test_order_relation_loss_equals_loop():
    rng = np.random.default_rng(0)
    relations = rng.uniform(size=(6, 6)).astype(np.float32)
    order, decided = rng.uniform(size=(2, 6, 6)) < 0.5
    takes_part = np.array([True, True, False, True, True, False])
    total = 0.0
    for i in np.flatnonzero(takes_part):
        for j in np.flatnonzero(takes_part):
            total += (relations[i, j] - order[i, j]) ** 2 if decided[i, j] else 0
    loss = jax.jit(losses.order_relation_loss)(jnp.array(relations), order, decided, takes_part)
    np.testing.assert_allclose(loss, total / 16, rtol=1e-6)


def test_order_cross_entropy_equals_loop():
    rng = np.random.default_rng(2)
    logits = 4 * rng.normal(size=(6, 6))
    order, decided = rng.uniform(size=(2, 6, 6)) < 0.5
    takes_part = np.array([True, True, False, True, True, False])
    total = 0.0
    for i in np.flatnonzero(takes_part):
        for j in np.flatnonzero(takes_part):
            if i != j and decided[i, j]:
                probability = 1 / (1 + np.exp(-logits[i, j] / 2))
                total -= np.log(probability if order[i, j] else 1 - probability)
    loss = jax.jit(losses.order_cross_entropy_loss)(jnp.array(logits), order, decided, takes_part)
    np.testing.assert_allclose(loss, total / 16, rtol=1e-5)


def wrong_pairs():
    """Logits of M of pairs that are ordered wrongly, from barely to hopelessly: M_01 should be 1 and M_10 be 0."""
    finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
    return st.tuples(finite, finite).filter(lambda pair: pair[0] <= pair[1])


@given(wrong_pairs())
@settings(deadline=None)  # the first example compiles
def test_no_finite_logits_of_a_wrong_pair_are_without_gradient(pair):
    logits = jnp.array([[0.0, pair[0]], [pair[1], 0.0]])
    everything = jnp.ones((2, 2), bool)
    order = jnp.array([[False, True], [False, False]])
    gradient = jax.grad(losses.order_cross_entropy_loss)(logits, order, everything, everything[0])
    apart = gradient[0, 1] - gradient[1, 0]  # descent raises M_01 over M_10
    assert np.isfinite(apart) and apart <= -0.12


@pytest.mark.parametrize(('loss', 'recovers'), [('cross_entropy', True), ('squared', False)])
def test_saturated_logits_on_the_wrong_side_recover(loss, recovers):
    """500 steps of the demo's rate and weight, straight on the logits: 2 and 3 times saturated, and both ways alike."""
    order = jnp.array([[False, True], [False, False]])
    everything = jnp.ones((2, 2), bool)

    def value(logits):
        if loss == 'cross_entropy':
            return losses.order_cross_entropy_loss(logits, order, everything, everything[0])
        relations = overlap_relations(jax.nn.sigmoid(logits), everything[0])
        return losses.order_relation_loss(relations, order, everything, everything[0])

    @jax.jit
    def train(logits):
        return jax.lax.fori_loop(0, 500, lambda _, x: x - 0.02 * 20 * jax.grad(value)(x), logits)

    for covered, covering in ((-8.0, 8.0), (-12.0, 12.0), (-10.0, -10.0), (10.0, 10.0)):
        logits = train(jnp.array([[0.0, covered], [covering, 0.0]]))
        relations = overlap_relations(jax.nn.sigmoid(logits), everything[0])
        assert bool(relations[0, 1] >= 0.5) == recovers, (covered, covering)


def test_semantic_loss_is_a_mean_over_labelled_pixels():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 5, 7)).astype(np.float32)
    labels = rng.integers(0, 7, (4, 5)).astype(np.uint8)
    labels[1:3, 2] = SEMANTIC_IGNORE
    errors = []
    for y, x in np.argwhere(labels != SEMANTIC_IGNORE):
        values = logits[y, x].astype(np.float64)
        errors.append(np.log(np.exp(values).sum()) - values[labels[y, x]])
    loss, gradient = value_and_gradient(losses.semantic_loss, jnp.array(logits), labels)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-6)
    assert not np.any(gradient[labels == SEMANTIC_IGNORE])


def empty_losses():
    none, logits = jnp.zeros(3, bool), jnp.array([3.0, -1.0, 2.0])
    labels = jnp.array([0, 1, 0])
    return {
        'rpn_score': (losses.rpn_score_loss, (logits, -jnp.ones(3, jnp.int8), 4)),
        'rpn_box': (losses.rpn_box_loss, (jnp.ones((3, 4)), jnp.zeros((3, 4)), -jnp.ones(3))),
        'box_class': (losses.box_class_loss, (jnp.ones((3, 3)), labels, none)),
        'box_delta': (losses.box_delta_loss, (jnp.ones((3, 2, 4)), jnp.ones((3, 4)), labels, none)),
        'mask': (losses.mask_loss, (jnp.ones((3, 2, 2)), jnp.ones((3, 2, 2)), none)),
        'semantic': (losses.semantic_loss, (jnp.ones((3, 3)), jnp.full(3, SEMANTIC_IGNORE))),
        'panoptic': (losses.panoptic_loss, (jnp.ones((3, 3)), jnp.full(3, -1))),
        'overlap': (losses.overlap_relation_loss, (jnp.ones((3, 3)), jnp.ones((3, 3), bool), none)),
        'order_cross_entropy': (
            losses.order_cross_entropy_loss,
            (jnp.ones((3, 3)), jnp.ones((3, 3)), jnp.ones((3, 3), bool), none),
        ),
        'order': (losses.order_relation_loss, (jnp.ones((3, 3)), jnp.ones((3, 3)), jnp.ones((3, 3), bool), none)),
    }


@pytest.mark.parametrize('name', list(empty_losses()))
def test_nothing_to_compare_gives_zero(name):
    function, arguments = empty_losses()[name]
    value, gradient = value_and_gradient(function, *arguments)
    assert value == 0 and value.dtype == jnp.float32
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize('name', ['rpn_score', 'mask', 'semantic', 'panoptic'])
def test_half_precision_logits_are_summed_in_float32(name):
    function, arguments = empty_losses()[name]
    assert function(arguments[0].astype(jnp.bfloat16), *arguments[1:]).dtype == jnp.float32


def test_smooth_l1_is_continuous_and_smooth_at_its_knee():
    for sigma in (1.0, 3.0):
        knee = 1 / sigma**2
        below, above = knee * (1 - 1e-4), knee * (1 + 1e-4)
        value = jax.jit(jax.value_and_grad(lambda x, sigma=sigma: losses.smooth_l1(x, sigma=sigma)))
        np.testing.assert_allclose(value(below)[0], value(above)[0], rtol=1e-3)
        np.testing.assert_allclose(value(below)[1], value(above)[1], rtol=1e-3)

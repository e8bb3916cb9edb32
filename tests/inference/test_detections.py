import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.inference.detections import box_detections, panoptic_detections
from sognet_jax.ops.boxes import clip, decode, iou
from sognet_jax.ops.proposals import BOX_WEIGHTS
from tests.support import golden_files
from tests.support.golden_files import SHIFT

pytestmark = pytest.mark.compiles


@golden_files.parametrize('mask_roi')
def test_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    num_rois = len(golden['rois'])
    deltas = golden['deltas'].reshape(num_rois, -1, 4)[:, 1:]
    select = jax.jit(panoptic_detections, static_argnames='score_threshold')
    boxes, classes, scores, valid = select(
        jnp.array(golden['rois'][:, 1:] + SHIFT), jnp.array(golden['prob']), jnp.array(deltas),
        jnp.ones(num_rois, bool), jnp.array(golden['im_info'][0, :2]),
        score_threshold=float(golden['pan_score_thresh']), nms_threshold=float(golden['pan_nms_thresh']),
    )  # fmt: skip
    assert boxes.shape == (100, 4)
    if not golden['pan_cls'].any():  # the published code stands in a box of class 0 for an empty result
        assert not valid.any()
        return
    count = len(golden['pan_cls'])
    np.testing.assert_array_equal(valid, np.arange(100) < count)
    np.testing.assert_array_equal(classes[:count] + 1, golden['pan_cls'])
    np.testing.assert_allclose(scores[:count], golden['pan_scores'], rtol=1e-6)
    np.testing.assert_allclose(boxes[:count] - SHIFT, golden['pan_boxes'][:, 1:], rtol=1e-4, atol=1e-3)


def detect(probabilities, score_threshold, max_detections=5, proposal_valid=None):
    probabilities = jnp.array(probabilities)
    count, classes = probabilities.shape
    boxes = jnp.arange(count)[:, None] * 20.0 + jnp.array([0.0, 0.0, 10.0, 10.0])
    valid = jnp.ones(count, bool) if proposal_valid is None else jnp.array(proposal_valid)
    select = jax.jit(panoptic_detections, static_argnames=('score_threshold', 'max_detections'))
    return select(
        boxes, probabilities, jnp.zeros((count, classes - 1, 4)), valid, jnp.array([500, 500]),
        score_threshold=score_threshold, max_detections=max_detections,
    )  # fmt: skip


def test_two_classes_of_one_proposal_at_a_low_threshold():
    boxes, classes, scores, valid = detect([[0.1, 0.5, 0.4], [0.4, 0.2, 0.4]], 0.3)
    # The second class of a proposal has the same box here, so that the suppression over all classes removes it.
    np.testing.assert_array_equal(valid, [True, True, False, False, False])
    np.testing.assert_array_equal(classes[:2], [0, 1])
    np.testing.assert_allclose(scores, [0.5, 0.4, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(boxes[1], [20, 20, 30, 30], rtol=1e-5)
    assert not np.any(boxes[2:])


def test_invalid_proposals_and_thresholds():
    valid = detect([[0.1, 0.9], [0.2, 0.8], [0.4, 0.6]], 0.6, proposal_valid=[False, True, True])[3]
    assert valid.sum() == 1, 'the score must be above the threshold, not equal to it'
    assert not detect([[0.1, 0.9]], 0.95)[3].any()


def test_keeps_the_best():
    rng = np.random.default_rng(0)
    thing = rng.uniform(0.1, 0.9, (12, 1)).astype(np.float32)
    _, _, scores, valid = detect(np.concatenate([1 - thing, thing], axis=1), 0.0, 5)
    assert valid.all()
    np.testing.assert_allclose(scores, np.sort(thing[:, 0])[::-1][:5], rtol=1e-6)


select_boxes = jax.jit(box_detections, static_argnames='max_detections')


@golden_files.parametrize('mask_roi')
def test_box_detections_match_published(golden_path):
    golden = golden_files.load(golden_path)
    num_rois = len(golden['rois'])
    boxes, classes, scores, valid = select_boxes(
        jnp.array(golden['rois'][:, 1:] + SHIFT), jnp.array(golden['prob']),
        jnp.array(golden['deltas'].reshape(num_rois, -1, 4)[:, 1:]), jnp.ones(num_rois, bool),
        jnp.array(golden['im_info'][0, :2]),
        score_threshold=float(golden['det_score_thresh']), nms_threshold=float(golden['det_nms_thresh']),
    )  # fmt: skip
    assert boxes.shape == (100, 4)
    if not golden['det_cls'].any():  # the published stand-in for an empty result
        assert not valid.any()
        return
    # Published: grouped by class, and more than 100 where scores equal the 100th. Of those any may be ours.
    count = min(len(golden['det_cls']), 100)
    np.testing.assert_array_equal(valid, np.arange(100) < count)
    assert np.all(np.diff(scores) <= 0)
    assert not np.any(boxes[count:]) and not np.any(classes[count:]) and not np.any(scores[count:])
    np.testing.assert_allclose(scores[:count], np.sort(golden['det_scores'])[::-1][:count], rtol=1e-6)
    same = np.array(classes)[:count, None] + 1 == golden['det_cls']
    same &= np.isclose(np.array(scores)[:count, None], golden['det_scores'], rtol=1e-6, atol=0)
    expected = golden['det_boxes'][:, 1:] + SHIFT
    same &= np.isclose(np.array(boxes)[:count, None], expected, rtol=1e-4, atol=1e-3).all(axis=-1)
    partner = np.argmax(same, axis=1)
    assert same.any(axis=1).all() and len(np.unique(partner)) == count


def random_case(seed, count, num_things, image=200.0):
    """Crowded proposals with quantised scores, so that suppression, classes and ties all matter."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, image / 2, (count, 2)), rng.uniform(10, image / 2, (count, 2))
    probabilities = rng.dirichlet(np.full(num_things + 1, 0.3), count)
    return {
        'proposals': np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        'probabilities': (np.round(probabilities * 32) / 32).astype(np.float32),
        'deltas': rng.normal(0, 1, (count, num_things, 4)).astype(np.float32),
        'proposal_valid': rng.uniform(size=count) < 0.9,
        'image_size': np.array([image, image], np.float32),
    }


def suppress_by_loops(case, score_threshold, nms_threshold, max_detections):
    """(score, class, proposal) of what stays, with one decision after the other."""
    boxes = np.array(clip(decode(case['deltas'], case['proposals'][:, None], BOX_WEIGHTS), case['image_size']))
    ious = np.array(jax.vmap(lambda boxes: iou(boxes, boxes), in_axes=1)(boxes))  # [T, P, P]
    pairs = [
        (-float(case['probabilities'][row, thing + 1]), thing, row)
        for row in np.flatnonzero(case['proposal_valid'])
        for thing in range(boxes.shape[1])
        if case['probabilities'][row, thing + 1] > score_threshold
    ]
    kept = []
    for score, thing, row in sorted(pairs):
        better = [other for _, other_thing, other in kept if other_thing == thing]
        if not better or np.max(ious[thing, row, better]) <= nms_threshold:
            kept.append((score, thing, row))
    return kept[:max_detections], boxes


@pytest.mark.parametrize(
    ('seed', 'count', 'num_things', 'max_detections'), [(0, 40, 3, 100), (1, 7, 2, 50), (2, 60, 9, 20)]
)
def test_box_detections_do_what_a_loop_does(seed, count, num_things, max_detections):
    case = random_case(seed, count, num_things)
    expected, decoded = suppress_by_loops(case, 0.05, 0.5, max_detections)
    boxes, classes, scores, valid = select_boxes(**case, max_detections=max_detections)
    number = len(expected)
    np.testing.assert_array_equal(valid, np.arange(max_detections) < number)
    assert [(-score, thing) for score, thing, _ in expected] == list(
        zip(scores[:number].tolist(), classes[:number].tolist(), strict=True)
    )
    np.testing.assert_allclose(boxes[:number], [decoded[row, thing] for _, thing, row in expected], rtol=1e-5)


def test_every_one_of_a_thousand_proposals_counts_at_a_low_threshold():
    # 19 classes of every proposal lie above 0.05. The proposals are one box, except that the last one, with the lowest
    # scores of all 19000 pairs, stands alone.
    proposals = np.tile(np.array([10, 10, 60, 60], np.float32), (1000, 1))
    proposals[-1] += 200
    probabilities = np.zeros((1000, 81), np.float32)
    probabilities[:, 1:20] = 0.052
    probabilities[-1, 1:20] = 0.051
    boxes, classes, scores, valid = select_boxes(
        proposals, probabilities, np.zeros((1000, 80, 4), np.float32), np.ones(1000, bool), np.array([500, 500])
    )
    assert valid.sum() == 38
    np.testing.assert_array_equal(classes[:38], np.tile(np.arange(19), 2))
    np.testing.assert_allclose(boxes[18:20], [[10, 10, 60, 60], [210, 210, 260, 260]], rtol=1e-5)
    np.testing.assert_allclose(scores[18:20], [0.052, 0.051], rtol=1e-6)


def test_box_detections_suppress_within_a_class_alone():
    case = {
        'proposals': np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32),
        'probabilities': np.array([[0.1, 0.5, 0.4], [0.0, 0.7, 0.3]], np.float32),
        'deltas': np.zeros((2, 2, 4), np.float32),
        'proposal_valid': np.ones(2, bool),
        'image_size': np.array([50, 50]),
    }
    _, classes, scores, valid = select_boxes(**case, max_detections=5)
    np.testing.assert_array_equal(valid, [True, True, False, False, False])
    np.testing.assert_array_equal(classes[:2], [0, 1])
    np.testing.assert_allclose(scores[:2], [0.7, 0.4], rtol=1e-6)
    for batched, single in zip(jax.jit(jax.vmap(lambda c: box_detections(**c)))(jax.tree.map(lambda x: x[None], case)),
                               box_detections(**case), strict=True):  # fmt: skip
        np.testing.assert_array_equal(batched[0], single)

import jax
import jax.numpy as jnp
import numpy as np

from sognet_jax.inference.detections import panoptic_detections
from tests import golden_files
from tests.golden_files import SHIFT


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

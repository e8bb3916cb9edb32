"""Non-maximum suppression and sampling."""

import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.ops.nms import nms
from sognet_jax.ops.sampling import sample
from tests.support import golden_files
from tests.support.golden_files import SHIFT


def kept(boxes, scores, threshold):
    indices, real = nms(boxes, scores, np.ones(len(boxes), bool), threshold, len(boxes))
    return np.asarray(indices)[np.asarray(real)].tolist()


@golden_files.parametrize('ops_nms_')
def test_suppression_keeps_what_torchvision_and_the_published_code_keep(golden_path):
    golden = golden_files.load(golden_path)
    boxes, scores = golden['boxes'], golden['scores']
    for percent in (30, 50, 70):
        # Pairs whose IoU is 0.3 in float32 are above the threshold in double precision, in which torchvision compares.
        if not (golden_path.stem == 'ops_nms_ties' and percent == 30):
            assert kept(boxes, scores, percent / 100) == golden[f'keep_tv_{percent}'].tolist()
        assert kept(boxes + SHIFT, scores, percent / 100) == golden[f'keep_plus1_gt_{percent}'].tolist()
    # Class by class, as AP takes detections: the kept of every class, in the order of their scores.
    of_class = [np.flatnonzero(golden['class_idx'] == index) for index in np.unique(golden['class_idx'])]
    batched = np.concatenate([own[kept(boxes[own], scores[own], 0.5)] for own in of_class])
    assert batched[np.lexsort((batched, -scores[batched]))].tolist() == golden['keep_batched_tv_50'].tolist()


def greedy(boxes, scores, valid, threshold):
    """One box after the other, in NumPy."""
    left = boxes[:, None, :2], boxes[None, :, :2]
    right = boxes[:, None, 2:], boxes[None, :, 2:]
    overlap = np.prod(np.maximum(np.minimum(*right) - np.maximum(*left), 0), axis=-1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    iou = overlap / (area[:, None] + area[None, :] - overlap)
    chosen = []
    for index in np.argsort(-scores, kind='stable'):
        if valid[index] and not np.any(iou[index, chosen] > np.float32(threshold)):
            chosen.append(int(index))
    return chosen


@pytest.mark.parametrize('seed', range(20))
def test_rounds_keep_what_one_box_after_the_other_keeps(seed):
    rng = np.random.default_rng(seed)
    count, clusters = rng.integers(1, 400), rng.integers(1, 12)
    corner = rng.integers(0, 60, (clusters, 2))[rng.integers(clusters, size=count)] + rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(4, 30, (count, 2))], axis=1).astype(np.float32)
    scores = rng.integers(0, 9, count).astype(np.float32)  # many ties
    valid = rng.uniform(size=count) > 0.1
    indices, real = nms(boxes, scores, valid, 0.45, count)
    assert np.asarray(indices)[np.asarray(real)].tolist() == greedy(boxes, scores, valid, 0.45)


def test_a_chain_of_boxes_takes_as_many_rounds_as_it_is_long_and_is_right():
    """Each overlaps the next alone: every second one stays."""
    start = np.arange(300, dtype=np.float32)
    boxes = np.stack([4 * start, 0 * start, 4 * start + 10, 0 * start + 5], axis=1)
    assert kept(boxes, -start, 0.4) == list(range(0, 300, 2))


def test_invalid_boxes_neither_survive_nor_suppress():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], np.float32)
    indices, real = nms(boxes, np.array([0.9, 0.8, 0.1]), np.array([False, True, True]), 0.5, 5)
    assert indices.tolist() == [1, 2, 0, 0, 0] and real.tolist() == [True, True, False, False, False]


def test_only_the_best_outputs_fit():
    boxes = np.array([[0, 0, 1, 1], [5, 0, 6, 1], [9, 0, 10, 1]], np.float32)
    indices, real = nms(boxes, np.array([0.1, 0.9, 0.5]), np.ones(3, bool), 0.5, 2)
    assert indices.tolist() == [1, 2] and real.tolist() == [True, True]


@pytest.mark.parametrize('k', [0, 2, 9])
def test_sampling_takes_the_candidates_of_lowest_priority(k):
    candidates = np.array([True, False, True, True, True])
    priority = np.array([0.5, 0.0, 0.1, 0.5, 0.4])
    chosen = np.flatnonzero(sample(candidates, jnp.array(k), priority)).tolist()
    assert chosen == sorted([2, 4, 0, 3][:k])

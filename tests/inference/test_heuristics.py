"""The merge without a panoptic head, against the published one and against a loop over pixels."""

import numpy as np
import pytest

from sognet_jax.categories import COCO
from sognet_jax.inference.heuristics import heuristic_segments
from sognet_jax.scene import Segment
from tests.support import golden_files


def two_channels(ids, segments, scores):
    """The published form: semantic train id (255 void), and the number of the instance among its class, best first."""
    result = np.stack([np.full_like(ids, 255), np.zeros_like(ids)], axis=-1)
    numbers = {}
    for segment in sorted(segments, key=lambda segment: -scores[segment.instance] if segment.instance >= 0 else 1):
        if segment.instance >= 0:
            numbers[segment.category] = numbers.get(segment.category, 0) + 1
        result[ids == segment.id] = segment.category, numbers.get(segment.category, 0)
    return result


@golden_files.parametrize('postproc')
def test_matches_published(golden_path):
    golden = golden_files.load(golden_path)
    ids, segments = heuristic_segments(
        golden['heur_masks'] > 0,
        golden['heur_cls'] - 1,
        golden['heur_scores'],
        golden['semantic'],
        num_stuff=COCO.num_stuff,
        score_threshold=float(golden['heur_score_threshold']),
        fraction_threshold=float(golden['heur_fraction_threshold']),
        stuff_area_limit=int(golden['stuff_area_limit']),
    )
    np.testing.assert_array_equal(two_channels(ids, segments, golden['heur_scores']), golden['heuristic_2ch'])


def merge_by_pixels(masks, classes, scores, semantic, num_stuff, fraction, limit):
    """Category and instance of every pixel, -1 where there is none."""
    height, width = semantic.shape
    owner = np.full(semantic.shape, -1)
    pixels = [(y, x) for y in range(height) for x in range(width)]
    for slot in sorted(range(len(masks)), key=lambda slot: (-scores[slot], slot)):
        own = [pixel for pixel in pixels if masks[slot][pixel]]
        free = [pixel for pixel in own if owner[pixel] < 0]
        if scores[slot] >= 0.6 and free and len(free) / len(own) >= fraction:
            for pixel in free:
                owner[pixel] = slot
    category = np.full(semantic.shape, -1)
    for pixel in pixels:
        if owner[pixel] >= 0:
            category[pixel] = num_stuff + classes[owner[pixel]]
        elif semantic[pixel] < num_stuff:
            category[pixel] = semantic[pixel]
    for stuff in range(num_stuff):
        if (category == stuff).sum() < limit:
            category[category == stuff] = -1
    return category, owner


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('fraction', [0.0, 0.5, 0.7, 1.0])
def test_does_what_a_loop_over_pixels_does(seed, fraction):
    rng = np.random.default_rng(seed)
    height, width, count, num_stuff = 12, 15, 8, 4
    left, top = rng.integers(0, 10, count), rng.integers(0, 8, count)
    right, bottom = left + rng.integers(0, 8, count), top + rng.integers(0, 8, count)  # some are empty
    y, x = np.mgrid[:height, :width]
    masks = np.stack(
        [(x >= a) & (x < b) & (y >= c) & (y < d) for a, b, c, d in zip(left, right, top, bottom, strict=True)]
    )
    classes, scores = rng.integers(0, 3, count), np.round(rng.uniform(0.5, 1, count), 1)
    semantic = rng.integers(0, num_stuff + 3, (3, 5)).repeat(4, 0).repeat(3, 1).astype(np.int32)
    ids, segments = heuristic_segments(
        masks, classes, scores, semantic, num_stuff=num_stuff, fraction_threshold=fraction, stuff_area_limit=15
    )
    category, owner = merge_by_pixels(masks, classes, scores, semantic, num_stuff, fraction, 15)
    np.testing.assert_array_equal(ids == 0, category < 0)
    assert [segment.id for segment in segments] == np.unique(ids[ids > 0]).tolist()
    for segment in segments:
        np.testing.assert_array_equal(category[ids == segment.id], segment.category)
        np.testing.assert_array_equal(owner[ids == segment.id], segment.instance)


def test_stuff_is_counted_after_the_instances_took_their_pixels():
    semantic = np.zeros((4, 4), np.uint8)
    semantic[:, 2:] = 1
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 0, :2] = True
    arguments = {'num_stuff': 2, 'stuff_area_limit': 7}
    ids, segments = heuristic_segments(masks, np.array([0, 5]), np.array([0.9, 0.8]), semantic, **arguments)
    assert segments == [Segment(2, 1, -1), Segment(4, 7, 1)], 'six pixels of stuff 0 are left; instance 0 has none'
    assert (ids == 0).sum() == 6
    ids, segments = heuristic_segments(masks[:0], np.zeros(0, int), np.zeros(0), semantic, **arguments)
    assert segments == [Segment(1, 0, -1), Segment(2, 1, -1)]


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r'masks \(2, 3, 4\).*semantic \(3, 5\)'):
        heuristic_segments(np.zeros((2, 3, 4), bool), np.zeros(2, int), np.ones(2), np.zeros((3, 5), int), num_stuff=1)


def test_a_label_prior_turns_the_order_of_the_scores():
    """Slot 0 has the better score, but slot 1 lies on it; slot 2 lies on nothing."""
    masks = np.zeros((3, 1, 12), bool)
    masks[0, 0, 0:8], masks[1, 0, 5:9], masks[2, 0, 6:12] = True, True, True
    semantic = np.zeros((1, 12), int)
    lies_on = np.zeros((3, 3), bool)
    lies_on[1, 0] = True
    arguments = {'num_stuff': 1, 'fraction_threshold': 0.3, 'stuff_area_limit': 99}
    inputs = masks, np.array([0, 1, 2]), np.array([0.9, 0.8, 0.7]), semantic
    ids, _ = heuristic_segments(*inputs, **arguments)
    assert ids.tolist() == [[2] * 8 + [4] * 4], 'slot 1 has one of four pixels left'
    ids, segments = heuristic_segments(*inputs, lies_on=lies_on, **arguments)
    assert ids.tolist() == [[2] * 5 + [3] * 4 + [4] * 3]
    assert [segment.instance for segment in segments] == [0, 1, 2]


def test_an_instance_that_others_took_altogether_is_no_segment():
    masks = np.ones((2, 2, 2), bool)
    lies_on = np.array([[False, False], [True, False]])
    ids, segments = heuristic_segments(
        masks, np.array([0, 1]), np.array([0.9, 0.8]), np.zeros((2, 2), int), num_stuff=1, lies_on=lies_on
    )
    assert segments == [Segment(3, 2, 1)] and np.all(ids == 3)

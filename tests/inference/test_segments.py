"""Post-processing of the id map."""

import numpy as np

from sognet_jax.inference.segments import Segment, panoptic_segments


def test_padding_is_cut_and_small_stuff_becomes_void():
    panoptic = np.zeros((6, 8), np.int32)
    panoptic[0, :2] = 1  # two pixels of stuff 1: 8 at twice the size
    panoptic[2:4, 2:5] = 3  # instance 1 of class 4 (S = 2)
    panoptic[:, 6:] = 2  # instance 0 lies in the padding alone
    ids, segments = panoptic_segments(
        panoptic, np.array([7, 4]), num_stuff=2, image_size=(4, 6), original_size=(8, 12), stuff_area_limit=9
    )
    assert ids.shape == (8, 12)
    assert segments == [Segment(id=1, category=0, instance=-1), Segment(id=4, category=6, instance=1)]
    np.testing.assert_array_equal(ids[:2, :4], 0)
    np.testing.assert_array_equal(ids[4:, 4:10], 4)
    assert (ids == 4).sum() == 24 and (ids == 0).sum() == 8


def test_stuff_of_exactly_the_limit_stays():
    ids, segments = panoptic_segments(
        np.zeros((3, 3), np.int32),
        np.zeros(0, int),
        num_stuff=1,
        image_size=(3, 3),
        original_size=(3, 3),
        stuff_area_limit=9,
    )
    assert segments == [Segment(1, 0, -1)] and np.all(ids == 1)

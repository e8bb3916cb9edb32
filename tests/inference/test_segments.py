"""Post-processing of the id map."""

import numpy as np

from sognet_jax.inference.segments import panoptic_segments
from sognet_jax.scene import Segment
from tests.support import golden_files


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


@golden_files.parametrize('postproc')
def test_vote_is_the_published_one(golden_path):
    golden = golden_files.load(golden_path)
    size = golden['semantic'].shape
    labels = golden['panoptic_ids'].astype(np.int32)
    ids, segments = panoptic_segments(
        np.where(labels == 255, -1, labels),
        golden['cls_inds'] - 1,
        num_stuff=53,
        image_size=size,
        original_size=size,
        stuff_area_limit=int(golden['stuff_area_limit']),
        semantic=golden['semantic'],
    )
    present = np.unique(labels[(labels >= 53) & (labels != 255)]) - 53
    np.testing.assert_array_equal(unified_channels(ids, segments, present.tolist()), golden['unified_2ch'])


def unified_channels(ids, segments, present):
    """The published form: semantic id with 255 for void, and the rank of the instance among those before the vote."""
    unified = np.stack([np.full(ids.shape, 255, np.uint8), np.zeros(ids.shape, np.uint8)], axis=-1)
    for segment in segments:
        number = 1 + present.index(segment.instance) if segment.instance >= 0 else 0
        unified[ids == segment.id] = segment.category, number
    return unified

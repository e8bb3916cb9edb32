"""Layers drawn as slides: what stands on which, and in what order."""

import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.pictures.layers import exploded_layers
from sognet_jax.scene import Scene, Segment

COLORS = np.array([(180, 140, 20), (250, 0, 0), (0, 250, 0), (0, 0, 250)], np.uint8)


def scene(relations):
    """Three squares of pure colours one below the other on ochre."""
    ids = np.ones((120, 160), np.int32)
    for slot in range(3):
        ids[5 + 38 * slot : 38 + 38 * slot, 50:110] = 5 + slot
    found = [Segment(1, 0, -1)] + [Segment(5 + slot, SHAPES.num_stuff + slot, slot, 0.5) for slot in range(3)]
    return COLORS[np.maximum(ids - 4, 0)], Scene(SHAPES, ids, found, np.asarray(relations, float))


def across(picture, color):
    """From where to where a colour is, as shares of the width, but for a few pixels; None where it is nowhere."""
    columns = np.flatnonzero((np.abs(picture.astype(int) - color) < 12).all(axis=-1).sum(axis=0) > 8)
    return columns[[0, -1]] / picture.shape[1] if len(columns) else None


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_what_lies_in_front_stands_further_to_the_right(order):
    relations = np.zeros((3, 3))
    relations[order[0], order[1]] = relations[order[1], order[2]] = relations[order[0], order[2]] = 0.9
    image, made_up = scene(relations)
    picture = exploded_layers(image, made_up, size=(300, 900))
    assert picture.shape == (300, 900, 3) and picture.dtype == np.uint8
    places = [across(picture, COLORS[0])] + [across(picture, COLORS[1 + slot]) for slot in order]
    assert all(left[1] < right[0] for left, right in zip(places[1:-1], places[2:], strict=True))
    assert places[0][0] < places[1][0] and places[0][1] < places[2][0]


def test_what_is_in_no_pair_is_pale_and_on_the_first_slide():
    image, made_up = scene([[0, 0.9, 0], [0, 0, 0], [0, 0, 0]])
    picture = exploded_layers(image, made_up, size=(300, 900))
    first, second = across(picture, COLORS[1]), across(picture, COLORS[2])
    assert first[1] < second[0] and across(picture, COLORS[3]) is None
    pale = across(picture, 0.4 * COLORS[3] + 0.6 * np.array([255, 255, 255]))
    assert abs(pale[0] - first[0]) < 0.02 and abs(pale[1] - first[1]) < 0.02


def test_slides_have_room_however_many_there_are():
    """A chain of 20: every slide is there, the last one ends before the border."""
    ids = np.arange(20, dtype=np.int32).repeat(120).reshape(40, 60) + 1
    found = [Segment(slot + 1, SHAPES.num_stuff, slot, 0.5) for slot in range(20)]
    for size in ((420, 840), (420, 3000)):
        relations = np.diag([0.9] * 19, 1)
        picture = exploded_layers(np.zeros((40, 60, 3), np.uint8), Scene(SHAPES, ids, found, relations), size=size)
        frames = (picture == 255).all(axis=-1)
        assert frames[:, -1].all() and frames[:, 0].all() and not frames[:, -8:].all() and not frames[:, :8].all()

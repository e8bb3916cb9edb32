"""Pictures of errors: every kind of segment and of arrow has its colour, where it belongs."""

import cv2
import numpy as np
import pytest

from sognet_jax.pictures.errors import (
    MISNAMED_COLOR,
    MISSED_COLOR,
    RIGHT_COLOR,
    RIGHT_ORDER_COLOR,
    UNKNOWN_ORDER_COLOR,
    WRONG_COLOR,
    SegmentErrors,
    error_picture,
    order_picture,
)

SIZE = 120, 160
IMAGE = np.full((*SIZE, 3), 100, np.uint8)
BOXES = np.array([[10.0, 40.0, 50.0, 80.0], [110.0, 40.0, 150.0, 80.0]])


def id_map(**boxes):
    """Segments `_1=(y1, y2, x1, x2)` on void."""
    ids = np.zeros(SIZE, np.int32)
    for name, (y1, y2, x1, x2) in boxes.items():
        ids[y1:y2, x1:x2] = int(name[1:])
    return ids


def near(picture, color, within=30):
    return np.all(np.abs(picture.astype(int) - color) <= within, axis=-1)


def draw(truth, predicted, errors, **names):
    return error_picture(IMAGE, truth, predicted, errors, height=SIZE[0], **names)


def closest(picture, colors):
    """Which of the colours' directions from grey a region leans to, on average."""
    lean = picture.reshape(-1, 3).mean(axis=0)
    lean = lean - lean.mean()
    colors = np.array(colors, float) - np.mean(colors, axis=1, keepdims=True)
    return int(np.argmax(colors @ lean / np.linalg.norm(colors, axis=1)))


def test_each_kind_of_segment_has_its_colour_where_the_segment_is():
    truth = id_map(_1=(0, 50, 0, 70), _2=(70, 120, 0, 70), _3=(0, 50, 90, 160))
    predicted = id_map(_11=(0, 50, 0, 70), _12=(70, 120, 90, 160), _13=(0, 50, 90, 160))
    picture = draw(truth, predicted, SegmentErrors(missed=[2], wrong=[12], misnamed=[13], right=[11]))
    assert picture.shape == (*SIZE, 3) and picture.dtype == np.uint8
    colors = (RIGHT_COLOR, MISSED_COLOR, WRONG_COLOR, MISNAMED_COLOR)
    regions = (picture[5:45, 5:65], picture[75:115, 5:65], picture[75:115, 95:155], picture[5:45, 95:155])
    assert [closest(region, colors) for region in regions] == [0, 1, 2, 3]
    # The outlines have the whole colour, and what is right hardly differs from the grey image.
    assert near(picture[0:50, 0:2], RIGHT_COLOR).any() and near(picture[70:120, 0:2], MISSED_COLOR).any()
    assert near(picture[70:120, 158:], WRONG_COLOR).any() and near(picture[0:50, 158:], MISNAMED_COLOR).any()
    assert np.ptp(regions[0].reshape(-1, 3).mean(axis=0)) < 20


def test_missed_and_wrong_are_both_seen_where_they_overlap():
    truth, predicted = id_map(_1=(10, 110, 10, 110)), id_map(_1=(30, 120, 50, 160))
    both = draw(truth, predicted, SegmentErrors(missed=[1], wrong=[1]))[40:100, 60:100]
    assert near(both, WRONG_COLOR, 60).mean() > 0.15 and near(both, MISSED_COLOR, 60).mean() > 0.08
    # The stripes of the one go down to the right, those of the other to the left.
    missed = draw(truth, predicted, SegmentErrors(missed=[1]))[40:100, 60:100].astype(int)
    wrong = draw(truth, predicted, SegmentErrors(wrong=[1]))[40:100, 60:100].astype(int)
    np.testing.assert_array_equal(missed[1:, 1:], missed[:-1, :-1])
    np.testing.assert_array_equal(wrong[1:, :-1], wrong[:-1, 1:])
    assert np.any(missed[1:, :-1] != missed[:-1, 1:]) and np.any(wrong[1:, 1:] != wrong[:-1, :-1])


def test_a_misnamed_segment_is_drawn_once_however_it_is_listed():
    truth, predicted = id_map(_1=(10, 110, 10, 110)), id_map(_5=(12, 110, 10, 110))
    once = draw(truth, predicted, SegmentErrors(misnamed=[5]))
    listed = draw(truth, predicted, SegmentErrors(missed=[1], wrong=[5], misnamed=[5]))
    np.testing.assert_array_equal(once, listed)
    assert not near(once, MISSED_COLOR).any() and not near(once, WRONG_COLOR).any()


def test_void_and_what_is_excused_have_light_grey_stripes():
    truth, predicted = id_map(_1=(0, 120, 0, 80)), id_map(_4=(0, 120, 0, 60), _5=(40, 80, 100, 140))
    picture = draw(truth, predicted, SegmentErrors(right=[4], excused=[5]))
    plain, void, excused = picture[:, 62:78], picture[:30, 100:140], picture[45:75, 105:135]
    assert np.ptp(plain) == 0
    for region in (void, excused):
        assert 5 < np.ptp(region[..., 0]) < 60
        assert np.ptp(region, axis=-1).max() < 12
    # Where a right segment lies on void there are no stripes.
    void_below = draw(np.zeros(SIZE, int), predicted, SegmentErrors(right=[4]))
    assert np.ptp(void_below[10:110, 10:50].reshape(-1, 3), axis=0).max() == 0


def test_errors_have_labels_where_there_is_room():
    truth, predicted = id_map(_1=(0, 120, 0, 80), _2=(4, 8, 100, 104)), id_map(_1=(0, 120, 80, 160))
    errors = SegmentErrors(missed=[1, 2], wrong=[1])
    without = draw(truth, predicted, errors)
    names = {'truth_names': {1: 'ball', 2: 'egg'}, 'predicted_names': {1: 'box'}}
    changed = np.any(draw(truth, predicted, errors, **names) != without, axis=-1)
    assert changed[:, :80].any() and changed[:, 80:].any()
    assert not changed[:20].any()  # the small one stays without
    only_truth = np.any(draw(truth, predicted, errors, truth_names=names['truth_names']) != without, axis=-1)
    assert only_truth.any() and not only_truth[:, 80:].any()


def test_the_picture_has_the_height_that_is_asked_for():
    ids = id_map(_1=(0, 120, 0, 80))
    for height in (60, 360):
        assert error_picture(IMAGE, ids, ids, SegmentErrors(right=[1]), height=height).shape == (
            height,
            height * 4 // 3,
            3,
        )
        assert order_picture(IMAGE, BOXES, np.zeros((2, 2)), np.zeros((2, 2), bool), height=height).shape[0] == height


def test_what_does_not_fit_together_is_refused():
    ids = id_map(_1=(0, 120, 0, 80))
    with pytest.raises(ValueError, match=r'\(120, 160, 3\), ids are \(120, 160\) and \(60, 160\)'):
        draw(ids, ids[:60], SegmentErrors())
    with pytest.raises(ValueError, match=r'ground truth segments without a pixel: \[7\]'):
        draw(ids, ids, SegmentErrors(missed=[1, 7]))
    with pytest.raises(ValueError, match=r'predicted segments without a pixel: \[8\]'):
        draw(ids, ids, SegmentErrors(right=[8]))
    with pytest.raises(ValueError, match=r'boxes are \(2, 4\), matrices \(3, 3\)'):
        order_picture(IMAGE, BOXES, np.zeros((3, 3)), np.zeros((2, 2), bool), height=120)


def relation(pairs, value):
    matrix = np.zeros((2, 2), type(value))
    for pair in pairs:
        matrix[pair] = value
    return matrix


def colors_between(relations, order, known=None):
    """The arrows of which many pixels between the boxes of the two instances have the colour, and the picture."""
    picture = order_picture(IMAGE, BOXES, relations, order, height=240, known=known)
    names = {'right': RIGHT_ORDER_COLOR, 'wrong': WRONG_COLOR, 'missed': MISSED_COLOR, 'unknown': UNKNOWN_ORDER_COLOR}
    counts = {name: int(near(picture[:, 105:215], color, 12).sum()) for name, color in names.items()}
    return {name for name, number in counts.items() if number > 40}, picture


@pytest.mark.parametrize(
    ('says', 'order', 'expected'),
    [
        ([(0, 1)], [(0, 1)], {'right'}),
        ([(1, 0)], [(0, 1)], {'wrong'}),
        ([(0, 1), (1, 0)], [(0, 1)], {'wrong'}),
        ([], [(0, 1)], {'missed'}),
        ([(0, 1)], [], {'unknown'}),
        ([], [], set()),
    ],
)
def test_arrows_have_the_colour_of_what_they_are(says, order, expected):
    found, _ = colors_between(relation(says, 0.9), relation(order, True))
    assert found == expected


def test_the_limit_is_the_metric_s():
    assert colors_between(relation([(0, 1)], 0.5), relation([(0, 1)], True))[0] == {'right'}
    assert colors_between(relation([(0, 1)], 0.49), relation([(0, 1)], True))[0] == {'missed'}


def test_known_says_which_pairs_are_judged():
    says = relation([(0, 1)], 0.9)
    everything, nothing = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    assert colors_between(says, nothing, everything)[0] == {'wrong'}
    assert colors_between(says, relation([(0, 1)], True), nothing)[0] == {'unknown'}
    assert colors_between(nothing * 1.0, relation([(0, 1)], True), nothing)[0] == set()


@pytest.mark.parametrize(('relations', 'color'), [(0.9, RIGHT_ORDER_COLOR), (0.0, MISSED_COLOR)])
def test_arrows_point_at_what_is_covered(relations, color):
    _, picture = colors_between(relation([(0, 1)], relations), relation([(0, 1)], True))
    of_arrow = near(picture, color, 12)
    # The first is covered: the head, wider than the line, is near it.
    tall = of_arrow.any(axis=1)[:, None] & of_arrow
    left, right = tall[:, 60:120], tall[:, 200:260]
    assert left.any(axis=1).sum() > right.any(axis=1).sum() + 4


def test_a_missed_pair_has_a_line_with_gaps():
    _, picture = colors_between(np.zeros((2, 2)), relation([(0, 1)], True))
    line = near(picture[120], MISSED_COLOR, 40)[100:240]
    assert 0.3 < line.mean() < 0.8 and np.count_nonzero(np.diff(line)) > 8


def test_instances_without_an_arrow_are_left_out():
    boxes = np.concatenate([BOXES, [[60.0, 85.0, 100.0, 115.0]]])
    relations = np.zeros((3, 3))
    relations[0, 1] = 0.9
    picture = order_picture(IMAGE, boxes, relations, relations > 0.5, height=240)
    background = cv2.resize(IMAGE, (320, 240)) * 0.55 + 255 * 0.45
    np.testing.assert_array_equal(picture[165:], background[165:].astype(np.uint8))
    none = np.zeros((0, 0))
    assert order_picture(IMAGE, np.zeros((0, 4)), none, none.astype(bool), height=240).shape == (240, 320, 3)

"""Pictures: colours, borders, arrows and cells where they belong."""

import cv2
import numpy as np

from sognet_jax.categories import SHAPES
from sognet_jax.data.records.png import encode_image
from sognet_jax.files import write_whole
from sognet_jax.pictures.drawing import (
    PanopticPicture,
    compose,
    inner_points,
    instance_color,
    overlap_graph,
    overlap_matrix,
    panoptic_overlay,
    spread,
    write_labels,
    write_names,
)

IMAGE = np.full((32, 40, 3), 100, np.uint8)


def test_a_segment_has_its_class_colour_and_void_is_grey():
    ids = np.zeros((32, 40), np.int32)
    ids[:, 20:] = 7
    picture = panoptic_overlay(IMAGE, PanopticPicture(ids, {7: (0, -1)}), SHAPES, height=32, opacity=1.0)
    assert picture.shape == (32, 40, 3)
    np.testing.assert_array_equal(picture[5, 5], [128, 128, 128])
    np.testing.assert_allclose(picture[16, 35], SHAPES.stuff[0].color, atol=1)


def test_instances_of_one_class_look_different():
    colors = {tuple(np.asarray(instance_color((200, 60, 40), index)).tolist()) for index in range(5)}
    assert len(colors) == 5


def test_a_point_lies_deep_inside_each_segment_also_where_the_middle_is_another_s():
    ids = np.zeros((60, 80), np.int32)
    ids[10:50, 10:30] = 3
    ids[5:55, 40:75] = 9
    ids[15:45, 45:70] = 4  # a frame around a box
    ids[0, 79] = 5
    points = inner_points(ids)
    assert points.keys() == {3, 4, 5, 9}
    for segment, (x, y) in points.items():
        assert ids[y, x] == segment
    assert points[3][0] in (19, 20) and 18 <= points[3][1] < 42
    assert points[5] == (79, 0)
    assert inner_points(np.zeros((4, 4), np.int32)) == {}


def test_names_stand_on_their_segments_and_not_on_each_other():
    ids = np.zeros((60, 200), np.int32)
    ids[:, 100:] = 1
    ids[20:40, 10:90] = 2
    segments = {1: (0, -1), 2: (SHAPES.num_stuff, 0)}
    picture = np.full((120, 400, 3), 200, np.uint8)
    named = write_names(picture, PanopticPicture(ids, segments), SHAPES)
    assert np.all(picture == 200)
    changed = np.any(named != picture, axis=-1)
    enlarged = cv2.resize(ids, (400, 120), interpolation=cv2.INTER_NEAREST)
    assert set(np.unique(enlarged[changed])) == {1, 2}
    # Two segments of one pixel height share a place: the second name goes to another line.
    ids = np.zeros((60, 200), np.int32)
    ids[30], ids[31] = 1, 2
    plates = [
        np.any(write_names(picture, PanopticPicture(ids, chosen), SHAPES) != picture, axis=-1).sum()
        for chosen in ({1: segments[1]}, {2: segments[2]}, segments)
    ]
    assert plates[0] + plates[1] == plates[2]


def test_a_name_without_room_is_left_out():
    for size in ((8, 90), (90, 8)):
        segments = PanopticPicture(np.ones(size, np.int32), {1: (0, -1)})
        picture = np.full((*size, 3), 200, np.uint8)
        np.testing.assert_array_equal(write_names(picture, segments, SHAPES), picture)


def test_small_segments_stay_without_a_label():
    ids = np.zeros((60, 200), np.int32)
    ids[:, 100:], ids[10:20, 10:50] = 1, 2
    picture = np.full((120, 400, 3), 200, np.uint8)
    for least_area, expected in ((0.0, {1, 2}), (0.1, {1}), (0.6, set())):
        labelled = write_labels(picture, ids, {1: 'a', 2: 'b'}, least_area=least_area)
        changed = np.any(labelled != picture, axis=-1)[::2, ::2]
        assert set(np.unique(ids[changed])) == expected


def test_numbers_stand_at_the_given_nodes():
    boxes = np.array([[2.0, 12.0, 10.0, 20.0]])
    moved = overlap_graph(IMAGE, boxes, np.zeros((1, 1)), height=320, nodes=np.array([[30.0, 26.0]]))
    usual = overlap_graph(IMAGE, boxes, np.zeros((1, 1)), height=320)
    rows, columns = np.nonzero(np.any(moved != usual, axis=-1) & (columns_of(moved) > 200))
    np.testing.assert_allclose((columns.mean(), rows.mean()), (300, 260), atol=2)


def columns_of(picture):
    return np.broadcast_to(np.arange(picture.shape[1]), picture.shape[:2])


def test_an_arrow_goes_from_what_covers_to_what_is_covered():
    boxes = np.array([[2.0, 12.0, 10.0, 20.0], [30.0, 12.0, 38.0, 20.0]])
    none = overlap_graph(IMAGE, boxes, np.zeros((2, 2)), height=320)
    covered = overlap_graph(IMAGE, boxes, np.array([[0.0, 0.9], [0.0, 0.0]]), height=320)
    other = overlap_graph(IMAGE, boxes, np.array([[0.0, 0.0], [0.9, 0.0]]), height=320)
    changed, changed_other = (np.any(picture != none, axis=-1) for picture in (covered, other))
    assert changed.any() and np.any(covered != other)
    # The head is wider than the shaft: more pixels change at the end that is covered.
    middle = changed.shape[1] // 2
    assert changed[:, :middle].sum() > changed[:, middle:].sum()
    assert changed_other[:, :middle].sum() < changed_other[:, middle:].sum()


def test_an_undecided_pair_has_a_line_with_gaps_and_without_a_head():
    boxes = np.array([[2.0, 12.0, 10.0, 20.0], [30.0, 12.0, 38.0, 20.0]])
    none = overlap_graph(IMAGE, boxes, np.zeros((2, 2)), height=320)
    pair = np.array([[False, True], [False, False]])
    dashed = overlap_graph(IMAGE, boxes, np.zeros((2, 2)), height=320, undecided=pair)
    other = overlap_graph(IMAGE, boxes, np.zeros((2, 2)), height=320, undecided=pair.T)
    np.testing.assert_array_equal(dashed, other)
    dark = dashed[160, 75:325].mean(axis=-1) < 90
    assert 0.3 < dark.mean() < 0.9 and np.count_nonzero(np.diff(dark)) > 10
    changed = np.any(dashed != none, axis=-1)
    assert changed[:, 75:325].any(axis=1).sum() <= 8


def test_nodes_have_the_given_labels():
    boxes = np.array([[2.0, 12.0, 10.0, 20.0]])
    usual, zero, other = (
        overlap_graph(IMAGE, boxes, np.zeros((1, 1)), height=320, labels=labels) for labels in (None, ['0'], ['17'])
    )
    np.testing.assert_array_equal(usual, zero)
    rows, columns = np.nonzero(np.any(usual != other, axis=-1))
    assert len(rows) and np.all(np.hypot(rows - 160, columns - 60) < 12)


def test_nodes_are_moved_apart_and_off_the_lines_of_others():
    rng = np.random.default_rng(0)
    nodes = rng.uniform(150, 190, (6, 2))
    nodes[1] = nodes[0]
    edges = np.array([[0, 1], [2, 3], [1, 4]])
    moved = spread(nodes, edges, (400, 500), 40.0)
    distances = np.linalg.norm(moved[:, None] - moved, axis=-1)[~np.eye(6, dtype=bool)]
    assert distances.min() > 35
    for first, second in edges:
        points = moved[first] + np.linspace(0, 1, 200)[:, None] * (moved[second] - moved[first])
        for node in set(range(6)) - {first, second}:
            assert np.linalg.norm(points - moved[node], axis=1).min() > 14
    # What is far apart stays where it is, and nothing leaves the picture.
    far = np.array([[50.0, 60.0], [300.0, 200.0], [160.0, 350.0]])
    np.testing.assert_allclose(spread(far, np.array([[0, 1]]), (400, 500), 40.0), far, atol=0.01)
    crowded = spread(np.zeros((8, 2)), np.zeros((0, 2), int), (60, 80), 40.0)
    assert crowded.min() >= 0 and np.all(crowded < (80, 60))
    assert spread(np.zeros((0, 2)), np.zeros((0, 2), int), (60, 80), 40.0).shape == (0, 2)


def test_cells_of_the_matrix_show_its_values():
    relations = np.zeros((3, 3))
    relations[0, 2] = 1.0
    picture = overlap_matrix(relations, ['ball', 'box', 'egg'], size=360, color=(200, 10, 10))
    red = np.all(np.abs(picture.astype(int) - (200, 10, 10)) < 8, axis=-1)
    rows, columns = np.nonzero(red)
    assert len(rows) > 500
    # In the first row and the last column.
    assert rows.mean() < picture.shape[0] / 2 < columns.mean()


def test_composed_pictures_keep_their_panels_and_can_be_written(tmp_path):
    panels = [[('one', IMAGE), ('two', IMAGE)], [('three', IMAGE)]]
    picture = compose(panels)
    assert picture.shape[1] >= 80 and picture.shape[0] >= 64
    write_whole(tmp_path / 'picture.png', encode_image(picture))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'picture.png'))[:, :, ::-1], picture)

"""Pictures: colours, borders, arrows and cells where they belong."""

import cv2
import numpy as np

from sognet_jax.categories import SHAPES
from sognet_jax.visualization import (
    PanopticPicture,
    compose,
    instance_color,
    overlap_graph,
    overlap_matrix,
    panoptic_overlay,
    write_png,
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
    write_png(str(tmp_path / 'picture.png'), picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'picture.png'))[:, :, ::-1], picture)

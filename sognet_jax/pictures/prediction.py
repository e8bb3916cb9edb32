"""The picture of one predicted image: its segments, and who covers whom as a graph and as the matrix O."""

import cv2
import numpy as np

from sognet_jax.pictures.drawing import (
    PanopticPicture,
    compose,
    inner_points,
    overlap_graph,
    overlap_matrix,
    panoptic_overlay,
    resized,
    write_names,
)
from sognet_jax.pictures.evaluation import PREDICTED
from sognet_jax.pictures.layers import exploded_layers
from sognet_jax.scene import Scene

PANEL = (600, 720)
"""Largest height and width of a panel in pixels."""

LAYERS_HEIGHT = 420

MATRIX_ROW = 14
"""Pixels that a row of the matrix needs for its name to be readable."""


def prediction_picture(image: np.ndarray, scene: Scene) -> np.ndarray:
    """`[h, w, 3]` uint8 RGB: the image and its segments; who covers whom as a graph, as the matrix O, as layers."""
    categories = scene.categories
    names = [segment.name for segment in scene.instances]
    label_length = max([13, *(len(f'{index} {name}') for index, name in enumerate(names))])
    panoptic = PanopticPicture(scene.panoptic, {s.id: (s.category, s.instance) for s in scene.segments})
    height = min(PANEL[0], round(PANEL[1] * image.shape[0] / image.shape[1]))
    plain = resized(image, height)
    overlay = write_names(panoptic_overlay(plain, panoptic, categories, height=height), panoptic, categories)
    # A matrix of many rows, and the graph beside it, are larger.
    side = max(height, PANEL[0] // 2, 2 * MATRIX_ROW + len(names) * MATRIX_ROW + 6 * label_length)
    matrix = overlap_matrix(scene.relations, names, size=side, color=PREDICTED, label_length=label_length)
    layers = exploded_layers(image, scene, size=(LAYERS_HEIGHT, 2 * max(plain.shape[1], LAYERS_HEIGHT)))
    return compose(
        [
            [('image', plain), ('segments', overlay)],
            [
                ('who covers whom: arrows point to what is covered', _graph(image, scene, side)),
                ('O: row is covered by column', matrix),
            ],
            [('layers from the back to the front; what is in no pair is pale', layers)],
        ]
    )


def _graph(image: np.ndarray, scene: Scene, height: int) -> np.ndarray:
    """The overlap graph, of at most this height, with its nodes on what is visible of the instances."""
    image_height, image_width = image.shape[:2]
    graph_height = min(height, round(2 * PANEL[1] * image_height / image_width))
    picture = image if image_height <= graph_height else resized(image, graph_height)
    scale = np.array([picture.shape[1] / image_width, picture.shape[0] / image_height])
    boxes = np.array([segment.box for segment in scene.instances], np.float64).reshape(-1, 2, 2) * scale
    points = inner_points(cv2.resize(scene.panoptic, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST))
    # What is too small to be seen in the picture has its node in the middle of its box.
    places = [points.get(segment.id, box.mean(axis=0)) for segment, box in zip(scene.instances, boxes, strict=True)]
    nodes = np.array(places, np.float64).reshape(-1, 2)
    return overlap_graph(picture, boxes.reshape(-1, 4), scene.relations, height=graph_height, nodes=nodes)

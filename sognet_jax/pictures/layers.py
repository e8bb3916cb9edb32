"""An image taken apart into its layers, which stand behind each other like slides."""

import cv2
import networkx as nx
import numpy as np

from sognet_jax.order.layers import order_layers
from sognet_jax.pictures.drawing import (
    FONT,
    INK,
    NODE_RADIUS,
    PAPER,
    TEXT_SCALE,
    arrow,
    blend,
    draw_nodes,
    inner_points,
    instance_color,
    resized,
    spread,
    write_on_plate,
)
from sognet_jax.scene import Scene

TURN, SLANT = 0.66, 0.2
"""A slide is seen from the side: so much of its width is left, and its right edge stands so much of it higher."""

LEAST_STEP, MOST_STEP = 0.3, 1.06
"""From one slide to the next, in widths of a slide."""

LABEL, MARGIN = 24, 2
"""Pixels below the slides, for their names, and around them."""


def exploded_layers(image: np.ndarray, scene: Scene, *, size: tuple[int, int]) -> np.ndarray:
    """The background at the left, the layers of the instances before it, and arrows to what they cover.

    Instances have their numbers in O; those in no pair have none, and are pale. What follows from other pairs (a on b
    and b on c, so a on c) has no arrow. `size` is the height and width of the result in pixels.
    """
    order = order_layers(scene.instance_ids, scene.relations)
    picture, aspect, last = np.full((*size, 3), 255, np.uint8), image.shape[1] / image.shape[0], len(order.layers)
    room = size[1] - 2 * MARGIN
    slide = min(TURN * aspect * (size[0] - LABEL - 2 * MARGIN) / (1 + SLANT * aspect), room / (1 + LEAST_STEP * last))
    step = min(MOST_STEP * slide, (room - slide) / max(last, 1))
    left = MARGIN + (room - slide - step * last) / 2
    card = resized(image, max(int(slide / TURN / aspect), 1))
    ids = cv2.resize(scene.panoptic, card.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    points, nodes, numbers = inner_points(ids), {}, {one: str(k) for k, one in enumerate(scene.instance_ids)}
    for layer, members in enumerate([[], *order.layers]):
        turn = np.array([[TURN, 0, left + step * layer], [-SLANT, 1, MARGIN + SLANT * card.shape[1]]])
        seen = np.isin(ids, members) if members else ~np.isin(ids, scene.instance_ids)
        related = np.isin(ids, order.without_relations, invert=True)
        _draw_slide(picture, card, np.where(related, 1, 0.4) * seen, turn)
        for member in set(members).difference(order.without_relations):
            color = instance_color(scene.categories.all[dict(scene.labels)[member]].color, int(numbers[member]))
            _draw_outline(picture, ids == member, color, turn)
            nodes[member] = turn @ [*points.get(member, (0, 0)), 1]
        name, origin = f'layer {layer - 1}' if layer else 'background', (round(turn[0, 2]), size[0] - LABEL // 3)
        cv2.putText(picture, name, origin, FONT, TEXT_SCALE, INK, 1, cv2.LINE_AA)
    places = spread(np.array(list(nodes.values())).reshape(-1, 2), np.zeros((0, 2), int), size, 2.0 * NODE_RADIUS)
    nodes = dict(zip(nodes, places, strict=True))
    for covering, covered in nx.transitive_reduction(order.graph).edges:
        arrow(picture, nodes[covering], nodes[covered])
    _write_names(picture, scene, nodes)
    draw_nodes(picture, places, [numbers[member] for member in nodes])
    return picture


def _draw_slide(picture: np.ndarray, card: np.ndarray, opacity: np.ndarray, turn: np.ndarray) -> None:
    """A pane of glass with what is on it, and a breath of the rest of the image."""
    (height, width), left = card.shape[:2], int(turn[0, 2])
    picture, turn = picture[:, left : left + int(TURN * width) + 2], turn - [[0, 0, left], [0, 0, 0]]
    corners = (np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]]) @ turn.T).round().astype(int)
    glass = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(glass, [corners], 1)
    blend(picture, glass > 0, PAPER, 0.3)
    soft = cv2.GaussianBlur(np.maximum(opacity, 0.1), (3, 3), 0)
    alpha = cv2.warpAffine(soft, turn, picture.shape[1::-1])[..., None]
    turned = cv2.warpAffine(card, turn, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    picture[:] = (picture + alpha * (turned.astype(np.float32) - picture)).round()
    cv2.polylines(picture, [corners], True, (160, 160, 168), 1, cv2.LINE_AA)


def _draw_outline(picture: np.ndarray, mask: np.ndarray, color: np.ndarray, turn: np.ndarray) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    turned = [(np.c_[line[:, 0], np.ones(len(line))] @ turn.T).round().astype(int) for line in contours]
    cv2.polylines(picture, turned, True, PAPER, 3, cv2.LINE_AA)
    cv2.polylines(picture, turned, True, color.tolist(), 1, cv2.LINE_AA)


def _write_names(picture: np.ndarray, scene: Scene, nodes: dict[int, np.ndarray]) -> None:
    """The instances' names below or above their nodes, where there is room."""
    discs = np.zeros(picture.shape[:2], np.uint8)
    for node in nodes.values():
        cv2.circle(discs, node.round().astype(int).tolist(), NODE_RADIUS - 1, 1, -1)
    taken = discs > 0

    def places(size: tuple[int, int]) -> list[tuple[int, int]]:
        x, y = nodes[one.id].round().astype(int).tolist()
        return [(x - size[0] // 2, top) for top in (y + NODE_RADIUS + 1, y - NODE_RADIUS - 1 - size[1])]

    for one in scene.instances:
        if one.id in nodes:
            write_on_plate(picture, taken, one.name, places)

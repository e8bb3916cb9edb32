"""Pictures: panoptic segments, who covers whom on the scene, and the overlap matrix of the paper's Figure 3."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.evaluation.order_accuracy import THRESHOLD

INK = (40, 40, 45)
PAPER = (255, 255, 255)
GRID = (222, 222, 226)
FONT = cv2.FONT_HERSHEY_SIMPLEX

HEADER = 22
"""Pixels above a picture, for its title."""

COVER_COLOR = (214, 69, 65)

NODE_RADIUS = 10
TEXT_SCALE = 0.42
NAME_PADDING = 3


@dataclasses.dataclass(frozen=True)
class PanopticPicture:
    """What is drawn of a panoptic segmentation."""

    ids: np.ndarray  # `[h, w]` segment ids, 0 is void
    segments: dict[int, tuple[int, int]]  # id -> (semantic train id, instance number or -1)


def panoptic_overlay(
    image: np.ndarray, panoptic: PanopticPicture, categories: CategorySet, *, height: int, opacity: float = 0.6
) -> np.ndarray:
    """The image under its segments: stuff in its class colour, instances in variations of theirs, with outlines.

    Args:
        image: `[h, w, 3]` uint8 RGB.
        panoptic: segments of the same size.
        height: of the result, which is enlarged or reduced to it, in pixels.
    """
    colors = np.full((max(panoptic.segments, default=0) + 1, 3), 128, np.float32)
    for segment, (category, instance) in panoptic.segments.items():
        colors[segment] = instance_color(categories.all[category].color, instance)
    background = resized(image, height).astype(np.float32)
    ids = cv2.resize(panoptic.ids.astype(np.int32), background.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    picture = (1 - opacity) * background + opacity * colors[ids]
    picture[_borders(ids)] = 255
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_names(picture: np.ndarray, panoptic: PanopticPicture, categories: CategorySet) -> np.ndarray:
    """A picture of segments with their class names on them.

    A name stands where its segment is widest, or a line or two above or below if another name is there. Large segments
    come first; a segment around which there is no free place stays without a name. Segments and picture may have
    different sizes.
    """
    names = {segment: categories.all[category].name for segment, (category, _) in panoptic.segments.items()}
    return write_labels(picture, panoptic.ids, names)


def write_labels(
    picture: np.ndarray, ids: np.ndarray, labels: Mapping[int, str], *, least_area: float = 0.0
) -> np.ndarray:
    """A picture of segments with texts on them, placed as `write_names` places names.

    Args:
        picture: `[h, w, 3]` uint8 RGB.
        ids: segment ids, 0 is void; of any size.
        labels: the texts by segment id.
        least_area: segments that fill less of the picture, a share of it, stay without.
    """
    picture = picture.copy()
    height, width = picture.shape[:2]
    ids = cv2.resize(ids.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    taken = np.zeros((height, width), bool)
    areas = np.bincount(ids.ravel())
    points = inner_points(ids)

    def places(size: tuple[int, int]) -> list[tuple[int, int]]:
        """Around the point, and some lines above or below."""
        x, y = points[segment]
        return [(x - size[0] // 2, y - size[1] // 2 + line * (size[1] + 1)) for line in (0, -1, 1, -2, 2)]

    for segment in sorted(points.keys() & labels.keys(), key=lambda segment: -areas[segment]):
        if areas[segment] < least_area * ids.size:
            break
        write_on_plate(picture, taken, labels[segment], places)
    return picture


def write_on_plate(
    picture: np.ndarray,
    taken: np.ndarray,
    text: str,
    places: Callable[[tuple[int, int]], Iterable[tuple[int, int]]],
    *,
    color: Sequence[int] = INK,
    opacity: float = 0.7,
) -> bool:
    """Writes on a plate where nothing is written yet; whether there is room.

    Args:
        picture: `[h, w, 3]` uint8 RGB, changed in place.
        taken: `[h, w]` bool, where something is written; likewise.
        places: upper left corners (x, y) of plates of a width and height, the best first.
        color, opacity: of the plate.
    """
    (_, ascent), descent = cv2.getTextSize('Ag', FONT, TEXT_SCALE, 1)
    width, height = cv2.getTextSize(text, FONT, TEXT_SCALE, 1)[0][0] + 2 * NAME_PADDING, ascent + descent + 2
    for x, y in places((width, height)):
        x = max(min(x, picture.shape[1] - width), 0)
        plate = np.s_[y : y + height, x : x + width]
        if width <= picture.shape[1] and 0 <= y <= picture.shape[0] - height and not taken[plate].any():
            taken[plate] = True
            blend(picture, plate, color, opacity)
            ink = PAPER if np.dot(color, (0.3, 0.59, 0.11)) < 140 else INK
            cv2.putText(picture, text, (x + NAME_PADDING, y + ascent), FONT, TEXT_SCALE, ink, 1, cv2.LINE_AA)
            return True
    return False


def blend(picture: np.ndarray, where: Any, color: Any, opacity: float) -> None:
    """Paints pixels, which an index of NumPy's says, with one colour or one for each of them."""
    picture[where] = ((1 - opacity) * picture[where] + opacity * np.asarray(color)).astype(np.uint8)


def inner_points(ids: np.ndarray) -> dict[int, tuple[int, int]]:
    """For each segment of `[h, w]` ids, 0 is void, the pixel (x, y) that lies deepest inside it, of several the one
    nearest to its middle.
    """
    depth = cv2.distanceTransform(np.pad(~_borders(ids), 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.indices(ids.shape)
    areas = np.maximum(np.bincount(ids.ravel()), 1)
    middle_x, middle_y = (np.bincount(ids.ravel(), weights=place.ravel()) / areas for place in (x, y))
    depth = depth - 0.05 * np.hypot(x - middle_x[ids], y - middle_y[ids])
    deepest = np.full(len(areas), -np.inf)
    np.maximum.at(deepest, ids.ravel(), depth.ravel())
    rows, columns = np.nonzero((depth == deepest[ids]) & (ids > 0))
    return {int(ids[row, column]): (int(column), int(row)) for row, column in zip(rows, columns, strict=True)}


def instance_color(color: Sequence[int], instance: int) -> np.ndarray:
    """A class colour, varied in hue and brightness from instance to instance; -1 leaves it as it is."""
    if instance < 0:
        return np.array(color, np.float32)
    hsv = cv2.cvtColor(np.array([[color]], np.uint8), cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    hsv[0] = (hsv[0] + (instance * 7) % 24 - 12) % 180
    hsv[1] = np.clip(hsv[1] + (instance * 53) % 70 - 20, 70, 255)
    hsv[2] = np.clip(hsv[2] + (instance * 37) % 90 - 45, 90, 255)
    return cv2.cvtColor(np.array([[hsv]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def overlap_graph(
    image: np.ndarray,
    boxes: np.ndarray,
    relations: np.ndarray,
    *,
    height: int,
    nodes: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    undecided: np.ndarray | None = None,
) -> np.ndarray:
    """The scene overlap graph: numbered instances, arrows from the covering to the covered one.

    Args:
        image: `[h, w, 3]` uint8 RGB.
        boxes: `[n, 4]` half-open, in pixels of the image.
        relations: `[n, n]` O or R*; above 0.5 at (i, j), i is covered by j.
        height: of the result in pixels.
        nodes: `[n, 2]` x, y where the instances' numbers stand; the middles of the boxes if not given.
        labels: the numbers; 0 .. n - 1 if not given.
        undecided: `[n, n]` bool, pairs that overlap in an unknown order, one of (i, j) and (j, i) or both: they get
            dashed lines.
    """
    picture = faded(image, height)
    scale = height / image.shape[0]
    boxes = boxes * scale
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 if nodes is None else nodes * scale
    draw_boxes(picture, boxes)
    if undecided is not None:
        for first, second in np.argwhere(np.triu(undecided | undecided.T)):
            dashed_line(picture, centers[first], centers[second], INK)
    for covered, covering in np.argwhere(relations > THRESHOLD):
        arrow(picture, centers[covering], centers[covered])
    draw_nodes(picture, centers, [str(index) for index in range(len(centers))] if labels is None else labels)
    return picture


def faded(image: np.ndarray, height: int) -> np.ndarray:
    """An image `[h, w, 3]`, enlarged or reduced to a height in pixels and whitened, as paper for a graph."""
    return (resized(image, height) * 0.55 + 255 * 0.45).astype(np.uint8)


def resized(image: np.ndarray, height: int) -> np.ndarray:
    """An image `[h, w, 3]` uint8, enlarged or reduced to a height in pixels; no pixel is left out."""
    width = max(round(image.shape[1] * height / image.shape[0]), 1)
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def draw_boxes(picture: np.ndarray, boxes: np.ndarray) -> None:
    """Draws thin grey frames, half-open boxes `[n, 4]` in pixels of the picture."""
    for x1, y1, x2, y2 in boxes.round().astype(int):
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), (120, 120, 128), 1, cv2.LINE_AA)


def draw_nodes(picture: np.ndarray, centers: np.ndarray, labels: Sequence[str]) -> None:
    """Draws discs with numbers on them, their middles `[n, 2]` (x, y) in pixels of the picture."""
    for label, center in zip(labels, centers.round().astype(int), strict=True):
        cv2.circle(picture, tuple(center.tolist()), NODE_RADIUS, INK, -1, cv2.LINE_AA)
        _text_centered(picture, label, center, 0.4, PAPER)


def arrow(
    picture: np.ndarray, start: np.ndarray, end: np.ndarray, color: Sequence[int] = COVER_COLOR, dashed: bool = False
) -> None:
    """Draws an arrow between the middles (x, y) of two nodes; its head touches the second."""
    length = max(float(np.linalg.norm(end - start)), 1e-6)
    direction = (end - start) / length
    end = end - direction * min(NODE_RADIUS + 2, length / 2)
    if dashed:
        dashed_line(picture, start, end, color)
        start = end - direction * 4
    first, second = (point.round().astype(int).tolist() for point in (start, end))
    for line_color, thickness in ((PAPER, 4 if dashed else 5), (color, 2)):
        head = 2.0 if dashed else min(12 / length, 0.5)
        cv2.arrowedLine(picture, first, second, line_color, thickness, cv2.LINE_AA, tipLength=head)


def dashed_line(picture: np.ndarray, start: np.ndarray, end: np.ndarray, color: Sequence[int]) -> None:
    """Draws a dashed line between two points (x, y) on a white one."""
    dashes = max(round(float(np.linalg.norm(end - start)) / 8), 1)
    points = (start + np.linspace(0, 1, dashes + 1)[:, None] * (end - start)).round().astype(int).tolist()
    cv2.line(picture, points[0], points[-1], PAPER, 4, cv2.LINE_AA)
    for first, second in list(zip(points[:-1], points[1:], strict=True))[::2]:
        cv2.line(picture, first, second, color, 2, cv2.LINE_AA)


def spread(nodes: np.ndarray, edges: np.ndarray, size: Sequence[int], distance: float) -> np.ndarray:
    """Moves nodes apart, and away from the lines between others, so that every line can be seen.

    Args:
        nodes: `[n, 2]` x, y.
        edges: `[e, 2]` the nodes that have a line between them.
        size: height and width of the picture, which they do not leave.
        distance: between any two, in pixels, and half of it from a line, as far as there is room.
    """
    nodes = nodes.astype(np.float64) + 1e-3 * np.arange(len(nodes))[:, None]  # none exactly on another
    upper = np.array([size[1], size[0]]) - 1 - NODE_RADIUS
    own = np.any(np.arange(len(nodes))[:, None, None] == edges, axis=-1)
    for _ in range(100):
        start, end = nodes[edges[:, 0]], nodes[edges[:, 1]]
        along = np.sum((nodes[:, None] - start) * (end - start), axis=-1) / np.sum((end - start) ** 2, axis=-1)
        nearest = start + np.clip(along, 0, 1)[..., None] * (end - start)
        pushes = _push(nodes[:, None] - nodes, distance).sum(axis=1)
        pushes += np.where(own[..., None], 0, _push(nodes[:, None] - nearest, distance / 2)).sum(axis=1)
        nodes = np.clip(nodes + pushes, NODE_RADIUS, np.maximum(upper, NODE_RADIUS))
    return nodes


def overlap_matrix(
    relations: np.ndarray, names: Sequence[str], *, size: int, color: Sequence[int], label_length: int = 13
) -> np.ndarray:
    """The matrix of Figure 3: the cell in row i and column j is filled as far as i is covered by j.

    Args:
        relations: `[n, n]` in 0..1.
        names: of the n instances, written before the rows.
        size: side of the result in pixels.
        label_length: characters of number and name before a row; longer ones are cut.
    """
    number = max(len(relations), 1)
    margin_left, margin_top = 8 + 6 * label_length, 24
    cell = max(min((size - margin_left - 8) // number, (size - margin_top - 8) // number), 1)
    picture = np.full((size, size, 3), 255, np.uint8)
    for i in range(len(relations)):
        middle = margin_top + i * cell + cell // 2
        label = f'{i} {names[i]}'
        cv2.putText(picture, label[:label_length], (4, middle + 4), FONT, 0.36, INK, 1, cv2.LINE_AA)
        _text_centered(picture, str(i), (margin_left + i * cell + cell // 2, margin_top - 10), 0.36, INK)
        for j in range(len(relations)):
            x, y = margin_left + j * cell, margin_top + i * cell
            fill = np.array(PAPER) + float(relations[i, j]) * (np.array(color) - np.array(PAPER))
            if i == j:
                fill = np.array((244, 244, 246))
            cv2.rectangle(picture, (x, y), (x + cell, y + cell), fill.round().tolist(), -1)
            cv2.rectangle(picture, (x, y), (x + cell, y + cell), GRID, 1)
    return picture


def compose(rows: Sequence[Sequence[tuple[str, np.ndarray]]], gap: int = 12) -> np.ndarray:
    """Titled pictures in rows on white paper."""
    heights = [gap + HEADER + max(picture.shape[0] for _, picture in row) for row in rows]
    width = max(sum(gap + picture.shape[1] for _, picture in row) for row in rows)
    paper = np.full((sum(heights) + gap, width + gap, 3), 255, np.uint8)
    for row, bottom in zip(rows, np.cumsum(heights).tolist(), strict=True):
        x, y = gap, bottom - max(picture.shape[0] for _, picture in row)
        for title, picture in row:
            cv2.putText(paper, title, (x + 1, y - HEADER + 15), FONT, 0.45, INK, 1, cv2.LINE_AA)
            paper[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            x += picture.shape[1] + gap
    return paper


def _push(offsets: np.ndarray, distance: float) -> np.ndarray:
    """A step in the direction of offsets `[..., 2]` that are shorter than `distance`."""
    lengths = np.maximum(np.linalg.norm(offsets, axis=-1, keepdims=True), 1e-6)
    return offsets / lengths * np.maximum(distance - lengths, 0) / 4


def _text_centered(picture: np.ndarray, text: str, center: Sequence[int], scale: float, color: Sequence[int]) -> None:
    (width, height), _ = cv2.getTextSize(text, FONT, scale, 1)
    origin = (int(center[0] - width / 2), int(center[1] + height / 2))
    cv2.putText(picture, text, origin, FONT, scale, color, 1, cv2.LINE_AA)


def _borders(ids: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour belongs to another segment."""
    border = np.zeros(ids.shape, bool)
    border[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    border[:-1] |= ids[:-1] != ids[1:]
    return border

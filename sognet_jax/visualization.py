"""Pictures: panoptic segments, who covers whom on the scene, and the overlap matrix of the paper's Figure 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from sognet_jax.categories import CategorySet

INK = (40, 40, 45)
PAPER = (255, 255, 255)
GRID = (222, 222, 226)
FONT = cv2.FONT_HERSHEY_SIMPLEX

COVER_COLOR = (214, 69, 65)


@dataclasses.dataclass(frozen=True)
class PanopticPicture:
    """What is drawn of a panoptic segmentation.

    Attributes:
        ids: `[h, w]` segment ids, 0 is void.
        segments: id -> (semantic train id, instance number or -1).
    """

    ids: np.ndarray
    segments: dict[int, tuple[int, int]]


def panoptic_overlay(
    image: np.ndarray, panoptic: PanopticPicture, categories: CategorySet, *, height: int, opacity: float = 0.6
) -> np.ndarray:
    """The image under its segments: stuff in its class colour, instances in variations of theirs, with outlines.

    Args:
        image: `[h, w, 3]` uint8 RGB.
        panoptic: segments of the same size.
        categories: colours.
        height: of the result, which is enlarged or reduced to it, in pixels.
        opacity: of the colours.
    """
    scale = height / image.shape[0]
    size = (round(image.shape[1] * scale), height)
    colors = np.full((max(panoptic.segments, default=0) + 1, 3), 128, np.float32)
    for segment, (category, instance) in panoptic.segments.items():
        colors[segment] = instance_color(categories.all[category].color, instance)
    background = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    ids = cv2.resize(panoptic.ids.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
    picture = (1 - opacity) * background + opacity * colors[ids]
    picture[_borders(ids)] = 255
    return np.clip(picture, 0, 255).astype(np.uint8)


def instance_color(color: Sequence[int], instance: int) -> np.ndarray:
    """A class colour, varied in hue and brightness from instance to instance; -1 leaves it as it is."""
    if instance < 0:
        return np.array(color, np.float32)
    hsv = cv2.cvtColor(np.uint8([[color]]), cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    hsv[0] = (hsv[0] + (instance * 7) % 24 - 12) % 180
    hsv[1] = np.clip(hsv[1] + (instance * 53) % 70 - 20, 70, 255)
    hsv[2] = np.clip(hsv[2] + (instance * 37) % 90 - 45, 90, 255)
    return cv2.cvtColor(np.uint8([[hsv]]), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def overlap_graph(
    image: np.ndarray, boxes: np.ndarray, relations: np.ndarray, *, height: int, threshold: float = 0.5
) -> np.ndarray:
    """The scene overlap graph: numbered instances, arrows from the covering to the covered one.

    Args:
        image: `[h, w, 3]` uint8 RGB.
        boxes: `[n, 4]` half-open, in pixels of the image.
        relations: `[n, n]` O or R*; above `threshold` at (i, j), i is covered by j.
        height: of the result in pixels.
        threshold: relations that are drawn.
    """
    scale = height / image.shape[0]
    picture = cv2.resize(image, (round(image.shape[1] * scale), height), interpolation=cv2.INTER_CUBIC)
    picture = (picture * 0.55 + 255 * 0.45).astype(np.uint8)
    boxes = boxes * scale
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    radius = 10
    for x1, y1, x2, y2 in boxes.round().astype(int):
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), (120, 120, 128), 1, cv2.LINE_AA)
    for covered, covering in np.argwhere(relations > threshold):
        start, end = centers[covering], centers[covered]
        length = max(float(np.linalg.norm(end - start)), 1e-6)
        end = end - (end - start) / length * min(radius + 2, length / 2)
        points = [tuple(point.round().astype(int).tolist()) for point in (start, end)]
        cv2.arrowedLine(picture, *points, (255, 255, 255), 5, cv2.LINE_AA, tipLength=min(12 / length, 0.5))
        cv2.arrowedLine(picture, *points, COVER_COLOR, 2, cv2.LINE_AA, tipLength=min(12 / length, 0.5))
    for index, center in enumerate(centers.round().astype(int)):
        cv2.circle(picture, tuple(center.tolist()), radius, INK, -1, cv2.LINE_AA)
        _text_centered(picture, str(index), center, 0.4, PAPER)
    return picture


def overlap_matrix(relations: np.ndarray, names: Sequence[str], *, size: int, color: Sequence[int]) -> np.ndarray:
    """The matrix of Figure 3: the cell in row i and column j is filled as far as i is covered by j.

    Args:
        relations: `[n, n]` in 0..1.
        names: of the n instances, written before the rows.
        size: side of the result in pixels.
        color: of a full cell.
    """
    number = max(len(relations), 1)
    margin_left, margin_top = 86, 24
    cell = max(min((size - margin_left - 8) // number, (size - margin_top - 8) // number), 1)
    picture = np.full((size, size, 3), 255, np.uint8)
    for i in range(len(relations)):
        middle = margin_top + i * cell + cell // 2
        label = f'{i} {names[i]}'
        cv2.putText(picture, label[:13], (4, middle + 4), FONT, 0.36, INK, 1, cv2.LINE_AA)
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
    """Titled pictures in rows on white paper; pictures of one row have one height."""
    strips = []
    for row in rows:
        cells = [_titled(title, picture) for title, picture in row]
        spacer = np.full((cells[0].shape[0], gap, 3), 255, np.uint8)
        strips.append(np.concatenate([part for cell in cells for part in (spacer, cell)] + [spacer], axis=1))
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((gap, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.concatenate([*padded, np.full((gap, width, 3), 255, np.uint8)])


def write_png(path: str, picture: np.ndarray) -> None:
    """Writes an RGB picture.

    Raises:
        OSError: the file cannot be written.
    """
    if not cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f'cannot write {path}')


def _titled(title: str, picture: np.ndarray) -> np.ndarray:
    header = np.full((22, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(header, title, (1, 15), FONT, 0.45, INK, 1, cv2.LINE_AA)
    return np.concatenate([header, picture])


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

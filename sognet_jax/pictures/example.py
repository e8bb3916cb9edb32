"""A picture of one training example, as the network gets it: every array of the data contract that can be seen."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.contract import MASK_SIDE, PANOPTIC_IGNORE, PANOPTIC_STRIDE, SEMANTIC_IGNORE, Example
from sognet_jax.pictures.drawing import (
    FONT,
    INK,
    PAPER,
    TEXT_SCALE,
    PanopticPicture,
    arrow,
    blend,
    compose,
    dashed_line,
    inner_points,
    instance_color,
    overlap_graph,
    panoptic_overlay,
    resized,
    spread,
    write_labels,
    write_on_plate,
)

PANEL = (480, 600)
"""Largest height and width of a panel in pixels."""

FACTS = (400, 440)
"""Least height and width of the panel with text."""

MARGIN, INDENT = 8, 56
"""Where lines of text start: usually, and behind a sample of what they explain."""

LINE = 19
"""Pixels from one line of text to the next."""

NODE_DISTANCE = 46.0

COLUMN = 195
"""Least width of a column of the list of instances."""

NAMED_AREA, NUMBERED_AREA = 0.004, 0.0015
"""Share of the picture that a segment fills at least to have its name, or its number, on it."""

CROWD_COLOR = (90, 90, 96)
STRIPE_COLORS = ((150, 150, 156), (190, 190, 196))


def example_picture(example: Example, categories: CategorySet) -> np.ndarray:
    """The arrays of one example without its padding, `[h, w, 3]` uint8 RGB: image and boxes, masks, both label maps,
    the overlap graph, and the numbers.
    """
    size = example['image_size']
    height = min(PANEL[0], round(PANEL[1] * size[0] / size[1]))
    panels, titles = _Panels(example, categories, height), _titles(example)
    facts = (max(height, FACTS[0]), max(panels.image.shape[1], FACTS[1]))
    first = {'boxes': panels.boxes(), 'masks': panels.masks(), 'semantic': panels.semantic()}
    second = {'panoptic': panels.panoptic(), 'graph': panels.graph(), 'the other fields': panels.facts(facts)}
    return compose([[(titles.get(name, name), panel) for name, panel in row.items()] for row in (first, second)])


def paste_masks(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Box-framed masks back in the image, `[n, h, w]` bool: the inverse of `transforms.mask_in_box`.

    Args:
        masks: `[n, 112, 112]` uint8 in {0, 1}.
        boxes: `[n, 4]` half-open boxes in pixels of the result.
        size: height and width of the result.
    """
    pasted = np.zeros((len(masks), *size), bool)
    for row, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        step = MASK_SIDE / np.maximum(box[2:] - box[:2], 1e-3)
        # Pixel x of the result has its centre at x + 0.5; OpenCV counts pixel centres from 0.
        to_mask = np.array([[step[0], 0, (0.5 - box[0]) * step[0] - 0.5], [0, step[1], (0.5 - box[1]) * step[1] - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        pasted[row] = cv2.warpAffine(mask * np.uint8(255), to_mask, size[::-1], flags=flags) > 127
    return pasted


def _titles(example: Example) -> dict[str, str]:
    without, unlabelled = ('' if example[name] else ': no annotation' for name in ('has_instances', 'has_panoptic'))
    pairs = f', pairs: {np.count_nonzero(np.triu(example["overlap"]))}' if example['has_instances'] else without
    return {
        'boxes': f'image, boxes, classes{without}',
        'masks': f'masks, {MASK_SIDE} x {MASK_SIDE} in their boxes{without}',
        'semantic': f'semantic{unlabelled}',
        'panoptic': f'panoptic, at 1/{PANOPTIC_STRIDE}{unlabelled}',
        'graph': f'overlap (R) and order (R*){pairs}',
    }


class _Panels:
    """The panels of an example, `height` pixels high, and what they share: image and instances."""

    def __init__(self, example: Example, categories: CategorySet, height: int) -> None:
        size = example['image_size']
        self._example, self._categories = example, categories
        self.image = resized(example['image'][: size[0], : size[1]], height)
        self._slots = slots = np.flatnonzero(example['valid'])
        self._crowd = example['crowd'][slots]
        self._boxes = example['boxes'][slots] * (height / int(size[0]))
        self._masks = paste_masks(example['masks'][slots], self._boxes, (height, self.image.shape[1]))
        things = [categories.things[thing] for thing in example['classes'][slots]]
        self._names = [thing.name for thing in things]
        self._colors: list[tuple[int, ...]] = [
            CROWD_COLOR if crowd else tuple(instance_color(thing.color, slot).round().astype(int).tolist())
            for slot, thing, crowd in zip(slots.tolist(), things, self._crowd, strict=True)
        ]

    def boxes(self) -> np.ndarray:
        picture = self.image.copy()
        taken = np.zeros(picture.shape[:2], bool)
        order = np.argsort(-np.prod(self._boxes[:, 2:] - self._boxes[:, :2], axis=1))
        for row in order:
            x1, y1, x2, y2 = (self._boxes[row] - [0, 0, 1, 1]).round().astype(int)
            if self._crowd[row]:
                corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]])
                for start, end in zip(corners[:-1], corners[1:], strict=True):
                    dashed_line(picture, start, end, CROWD_COLOR)
            else:
                cv2.rectangle(picture, (x1, y1), (x2, y2), PAPER, 3, cv2.LINE_AA)
                cv2.rectangle(picture, (x1, y1), (x2, y2), self._colors[row], 2, cv2.LINE_AA)
        for row in order:
            slot = self._slots[row]
            name = f'{slot} crowd: {self._names[row]}' if self._crowd[row] else f'{slot} {self._names[row]}'
            places = functools.partial(_plates_at_corners, self._boxes[row].round().astype(int).tolist())
            # Without room for the name, the number says as much as the list of instances.
            for text in (name, str(slot)):
                if write_on_plate(picture, taken, text, places, color=self._colors[row], opacity=1):
                    break
        return picture

    def masks(self) -> np.ndarray:
        """Large masks first, so that small ones are seen on them."""
        picture = (0.7 * self.image + 0.3 * 255).astype(np.uint8)
        for row in self._large_first():
            mask = self._masks[row]
            blend(picture, mask, _stripes(mask.shape)[mask] if self._crowd[row] else self._colors[row], 0.5)
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, PAPER, 2, cv2.LINE_AA)
            cv2.drawContours(picture, contours, -1, self._colors[row], 1, cv2.LINE_AA)
        return picture

    def semantic(self) -> np.ndarray:
        height, width = self._example['image_size']
        semantic = self._example['semantic'][:height, :width].astype(np.int32)
        ids = np.where(semantic == SEMANTIC_IGNORE, 0, semantic + 1)
        segments = {train_id + 1: (train_id, -1) for train_id in range(self._categories.num_classes)}
        names = {train_id + 1: category.name for train_id, category in enumerate(self._categories.all)}
        return _label_panel(self.image, PanopticPicture(ids, segments), self._categories, names, NAMED_AREA)

    def panoptic(self) -> np.ndarray:
        """Stuff has its name, an instance the number of its slot."""
        height, width = (round(int(side) / PANOPTIC_STRIDE) for side in self._example['image_size'])
        panoptic = self._example['panoptic'][:height, :width].astype(np.int32)
        ids = np.where(panoptic == PANOPTIC_IGNORE, 0, panoptic + 1)
        stuff, classes = self._categories.num_stuff, self._example['classes']
        segments = {index + 1: (index, -1) for index in range(stuff)}
        segments |= {stuff + slot + 1: (stuff + int(thing), slot) for slot, thing in enumerate(classes)}
        labels = {index + 1: category.name for index, category in enumerate(self._categories.stuff)}
        labels |= {stuff + slot + 1: str(slot) for slot in range(len(classes))}
        return _label_panel(self.image, PanopticPicture(ids, segments), self._categories, labels, NUMBERED_AREA)

    def graph(self) -> np.ndarray:
        """The instances that overlap another one; their numbers stand where little lies on them, a little apart."""
        size, boxes = self.image.shape[:2], self._boxes
        visible = np.zeros(size, np.int32)
        for row in self._large_first():
            visible[self._masks[row]] = row + 1
        points, slots = inner_points(visible), np.ix_(self._slots, self._slots)
        overlap, order, decided = (self._example[name][slots] for name in ('overlap', 'order', 'decided'))
        chosen = np.flatnonzero(overlap.any(axis=1))
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        nodes = np.array([points.get(int(row) + 1, middles[row]) for row in chosen]).reshape(-1, 2)
        pairs = np.ix_(chosen, chosen)
        return overlap_graph(
            self.image,
            boxes[chosen],
            order[pairs],
            height=size[0],
            nodes=spread(nodes, np.argwhere(np.triu(overlap[pairs])), size, NODE_DISTANCE),
            labels=[str(slot) for slot in self._slots[chosen]],
            undecided=(overlap & ~decided)[pairs],
        )

    def facts(self, size: tuple[int, int]) -> np.ndarray:
        """The numbers, what the lines mean, and as many of the instances as there is room for."""
        panel = np.full((*size, 3), 255, np.uint8)
        lines = _facts(self._example)
        for row, line in enumerate(lines):
            _write(panel, line, (MARGIN, row))
        row = len(lines)
        start, end = np.array([[MARGIN, (row + 0.4) * LINE], [INDENT - 8, (row + 0.4) * LINE]])
        arrow(panel, start, end)
        _write(panel, 'order: from what covers to what is covered', (INDENT, row))
        dashed_line(panel, start + [0, LINE], end + [0, LINE], INK)
        _write(panel, 'overlap that is not decided', (INDENT, row + 1))
        top = round((row + 2.1) * LINE)
        panel[top : top + 12, MARGIN : INDENT - 8] = _stripes((12, INDENT - 8 - MARGIN))
        _write(panel, 'ignored', (INDENT, row + 2))
        _list_instances(panel, self._instance_lines(), row + 4)
        return panel

    def _instance_lines(self) -> list[tuple[str, tuple[int, ...]]]:
        """What is said of each instance, and its colour."""
        lines = []
        for slot, name, crowd, color in zip(self._slots, self._names, self._crowd, self._colors, strict=True):
            covering = ', '.join(map(str, np.flatnonzero(self._example['order'][slot])))
            text = f'{slot} {name}{" (crowd)" if crowd else ""}'
            lines.append((text + (f', under {covering}' if covering else ''), color))
        return lines

    def _large_first(self) -> np.ndarray:
        return np.argsort(-self._masks.sum(axis=(1, 2)))


def _plates_at_corners(box: Sequence[int], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Places for a plate in, above or below a corner of a box."""
    x1, y1, x2, y2 = box
    return [(x, y) for x in (x1, x2 - size[0]) for y in (y1 - size[1], y1, y2 - size[1], y2)]


def _label_panel(
    image: np.ndarray, panoptic: PanopticPicture, categories: CategorySet, labels: dict[int, str], least_area: float
) -> np.ndarray:
    """A map of labels over the image, striped where it is ignored."""
    height, width = image.shape[:2]
    ids = cv2.resize(panoptic.ids, (width, height), interpolation=cv2.INTER_NEAREST)
    picture = panoptic_overlay(image, PanopticPicture(ids, panoptic.segments), categories, height=height, opacity=0.75)
    ignored = ids == 0
    picture[ignored] = image[ignored]
    blend(picture, ignored, _stripes(ignored.shape)[ignored], 0.75)
    return write_labels(picture, ids, labels, least_area=least_area)


def _facts(example: Example) -> list[str]:
    height, width = example['image_size']
    original = ' x '.join(map(str, example['original_size']))
    bucket = ' x '.join(map(str, example['image'].shape[:2]))
    has = [name.removeprefix('has_') for name in ('has_instances', 'has_panoptic') if example[name]]
    crowd, dropped = np.count_nonzero(example['crowd']), int(example['dropped'])
    overlap, order = np.triu(example['overlap']), example['order']
    decided = np.count_nonzero(overlap & example['decided'])
    state = 'mirrored' if example['mirrored'] else 'not mirrored'
    lines = [
        f'image {int(example["image_id"])}, {state}',
        f'original {original} (height x width), scale {float(example["scale"]):.3f}',
        f'network input {height} x {width}, padded to {bucket}',
        f'annotations: {" and ".join(has) or "none"}',
        f'{np.count_nonzero(example["valid"])} of {len(example["valid"])} slots used'
        + (f', {crowd} by crowd' if crowd else '')
        + (f'; {dropped} INSTANCES DROPPED' if dropped else ''),
        f'overlapping pairs: {np.count_nonzero(overlap)}, decided: {decided}',
    ]
    if example['true_order'].any():
        known = order & (example['true_order'] | example['true_order'].T)
        right = np.count_nonzero(order & example['true_order'])
        lines.append(f'R* is the true order: {right} of {np.count_nonzero(known)}')
    return lines


def _list_instances(panel: np.ndarray, lines: list[tuple[str, tuple[int, ...]]], first: int) -> None:
    """Writes the lines from row `first` on, in as many columns as it needs and there is room for."""
    rows = panel.shape[0] // LINE - first
    columns = min(max(-(-len(lines) // rows), 1), panel.shape[1] // COLUMN)
    shown = lines if len(lines) <= rows * columns else lines[: rows * columns - 1]
    if len(shown) < len(lines):
        shown = [*shown, (f'... and {len(lines) - len(shown)} more', PAPER)]
    width = panel.shape[1] // columns
    for number, (text, color) in enumerate(shown):
        left, row = number // rows * width, first + number % rows
        top = round((row + 0.1) * LINE)
        panel[top : top + 11, left + MARGIN : left + MARGIN + 11] = color
        _write(panel, text, (left + MARGIN + 16, row), width - 30)


def _write(panel: np.ndarray, text: str, place: tuple[int, int], room: int | None = None) -> None:
    """Writes a line at (x, row), cut where it needs more than `room` pixels."""
    if room is not None:
        while cv2.getTextSize(text, FONT, TEXT_SCALE, 1)[0][0] > room:
            text = text.rstrip('.')[:-1] + '...'
    origin = (place[0], round((place[1] + 0.65) * LINE))
    cv2.putText(panel, text, origin, FONT, TEXT_SCALE, INK, 1, cv2.LINE_AA)


def _stripes(size: tuple[int, int]) -> np.ndarray:
    """`[h, w, 3]` diagonal stripes in two greys."""
    row, column = np.indices(size)
    return np.array(STRIPE_COLORS, np.uint8)[(row + column) // 5 % 2]

"""Pictures of what went wrong in an image: segments missed, invented or misnamed, and orders that are wrong."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from sognet_jax.evaluation.order_accuracy import THRESHOLD
from sognet_jax.pictures.drawing import arrow, blend, draw_boxes, draw_nodes, faded, spread, write_labels

# Three of the colours of Okabe and Ito, which colour-blind readers tell apart; the stripes of two of them cross.
MISSED_COLOR = (0, 114, 178)
WRONG_COLOR = (213, 94, 0)
MISNAMED_COLOR = (170, 51, 140)
RIGHT_COLOR = (104, 148, 124)
IGNORED_COLOR = (130, 130, 138)

RIGHT_ORDER_COLOR = (0, 140, 104)
UNKNOWN_ORDER_COLOR = (118, 118, 128)

STRIPE, PERIOD = 3, 9
"""Width of a stripe, and pixels from one to the next, along a row."""

NAMED_AREA = 0.003
"""Share of the picture that a segment fills at least to have its name on it."""

NODE_DISTANCE = 44.0


@dataclasses.dataclass(frozen=True)
class SegmentErrors:
    """Segment ids of one image by what evaluation says of them."""

    missed: Sequence[int] = ()  # false negatives, ids of the ground truth
    wrong: Sequence[int] = ()  # false positives, predicted ids
    # predicted ids that have IoU > 0.5 with a ground truth segment of another class. They may be among `wrong`, and
    # what they lie on among `missed`; it is drawn once, as misnamed.
    misnamed: Sequence[int] = ()
    right: Sequence[int] = ()  # matched segments, predicted ids
    excused: Sequence[int] = ()  # predicted ids that match nothing and do not count, because they lie on void or crowd
    ignored: Sequence[int] = ()  # crowd segments, ids of the ground truth


class _Style(NamedTuple):
    """How a segment is painted."""

    color: tuple[int, int, int]
    tint: float  # its opacity between stripes
    stripes: float  # its opacity on them; the tint's for a segment without
    slope: int  # 1 for stripes down to the right, -1 to the left
    outline: int  # width in pixels; 0 for none


class _Layer(NamedTuple):
    """One segment: its pixels, its style, and a label, empty for none."""

    mask: np.ndarray
    style: _Style
    label: str = ''


_VOID = _Style(IGNORED_COLOR, 0.06, 0.28, 1, 0)
_IGNORED = _Style(IGNORED_COLOR, 0.06, 0.28, 1, 1)
_RIGHT = _Style(RIGHT_COLOR, 0.3, 0.3, 1, 1)
_MISNAMED = _Style(MISNAMED_COLOR, 0.5, 0.5, 1, 2)
_MISSED = _Style(MISSED_COLOR, 0.22, 0.85, 1, 2)
_WRONG = _Style(WRONG_COLOR, 0.22, 0.85, -1, 2)


def error_picture(
    image: np.ndarray,
    truth_ids: np.ndarray,
    predicted_ids: np.ndarray,
    errors: SegmentErrors,
    *,
    height: int,
    truth_names: Mapping[int, str] | None = None,
    predicted_names: Mapping[int, str] | None = None,
) -> np.ndarray:
    """What is missed, wrong, misnamed and right, on the greyed image.

    Missed segments have blue stripes down to the right, wrong ones orange stripes down to the left, so that both show
    where they overlap; misnamed ones are filled with purple. Right ones are barely tinted; void, crowd and what is
    excused for them have light grey stripes. Errors are labelled `-ball` (missed), `+ball` (wrong) and `egg as ball`
    (an egg that was called ball), where there is room.

    Args:
        image: `[h, w, 3]` uint8 RGB.
        truth_ids: `[h, w]` segment ids of the ground truth, 0 is void.
        predicted_ids: `[h, w]` predicted segment ids, 0 is void.
        height: of the result in pixels.
        truth_names, predicted_names: class names by segment id; a segment without one gets no label.

    Raises:
        ValueError: the three have different sizes, or a segment of `errors` has no pixel.
    """
    _check(image, truth_ids, predicted_ids, errors)
    size = (max(round(image.shape[1] * height / image.shape[0]), 1), height)
    truth, predicted = (
        cv2.resize(ids.astype(np.int32), size, interpolation=cv2.INTER_NEAREST) for ids in (truth_ids, predicted_ids)
    )
    behind = {segment: _mostly(truth_ids[predicted_ids == segment]) for segment in errors.misnamed}
    layers = _layers(truth, predicted, errors, behind, truth_names or {}, predicted_names or {})
    grey = cv2.cvtColor(faded(image, height), cv2.COLOR_RGB2GRAY)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    _paint(picture, layers)
    return _write_labels(picture, layers)


def order_picture(
    image: np.ndarray,
    boxes: np.ndarray,
    relations: np.ndarray,
    order: np.ndarray,
    *,
    height: int,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """The scene overlap graph of ground truth instances, and where it is wrong.

    Arrows go from the covering to the covered instance. They are green where the known order agrees and orange where
    it does not; a pair of known order of which O says nothing has a dashed blue arrow, which shows that order. Those
    of pairs whose order is unknown are grey. Instances without an arrow are left out.

    Args:
        image: `[h, w, 3]` uint8 RGB.
        boxes: `[n, 4]` half-open, in pixels of the image.
        relations: `[n, n]` O; from 0.5 on at (i, j) it says that i is covered by j.
        order: `[n, n]` bool, R* or the true order: i is covered by j.
        height: of the result in pixels.
        known: `[n, n]` bool, symmetric, the pairs that are judged; those with an order if not given. Any arrow of a
            known pair without an order is wrong.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    known = order | order.T if known is None else known
    number = len(boxes)
    if boxes.shape != (number, 4) or any(matrix.shape != (number, number) for matrix in (relations, order, known)):
        raise ValueError(
            f'boxes are {boxes.shape}, matrices {relations.shape}, {order.shape} and {known.shape}; '
            'expected [n, 4] and [n, n]'
        )
    says = (relations >= THRESHOLD) & ~np.eye(number, dtype=bool)
    missed = order & known & ~says & ~says.T
    linked = says | missed
    chosen = np.flatnonzero((linked | linked.T).any(axis=1))
    pairs = np.ix_(chosen, chosen)
    picture = faded(image, height)
    boxes = boxes[chosen] * (height / image.shape[0])
    edges = np.argwhere(np.triu((linked | linked.T)[pairs]))
    nodes = spread((boxes[:, :2] + boxes[:, 2:]) / 2, edges, picture.shape[:2], NODE_DISTANCE)
    draw_boxes(picture, boxes)
    _draw_arrows(picture, nodes, says[pairs], order[pairs], known[pairs])
    draw_nodes(picture, nodes, [str(index) for index in chosen])
    return picture


def _draw_arrows(
    picture: np.ndarray, nodes: np.ndarray, says: np.ndarray, order: np.ndarray, known: np.ndarray
) -> None:
    """What is wrong comes last, so that it lies on the rest."""
    right = says & order & ~says.T & known
    for arrows, color in ((says & ~known, UNKNOWN_ORDER_COLOR), (right, RIGHT_ORDER_COLOR)):
        for covered, covering in np.argwhere(arrows):
            arrow(picture, nodes[covering], nodes[covered], color)
    for covered, covering in np.argwhere(order & known & ~says & ~says.T):
        arrow(picture, nodes[covering], nodes[covered], MISSED_COLOR, dashed=True)
    for covered, covering in np.argwhere(says & known & ~right):
        arrow(picture, nodes[covering], nodes[covered], WRONG_COLOR)


def _check(image: np.ndarray, truth_ids: np.ndarray, predicted_ids: np.ndarray, errors: SegmentErrors) -> None:
    if image.ndim != 3 or not image.shape[:2] == truth_ids.shape == predicted_ids.shape:
        raise ValueError(
            f'the image is {image.shape}, ids are {truth_ids.shape} and {predicted_ids.shape}; '
            'expected [h, w, 3], [h, w] and [h, w]'
        )
    _check_present('ground truth', truth_ids, [*errors.missed, *errors.ignored])
    _check_present('predicted', predicted_ids, [*errors.wrong, *errors.misnamed, *errors.right, *errors.excused])


def _check_present(kind: str, ids: np.ndarray, segments: Sequence[int]) -> None:
    absent = np.setdiff1d(segments, ids)
    if len(absent):
        raise ValueError(f'{kind} segments without a pixel: {absent[:5].astype(int).tolist()}')


def _mostly(ids: np.ndarray) -> int:
    """The segment that most of some pixels belong to; 0 if all are void."""
    segments, counts = np.unique(ids[ids > 0], return_counts=True)
    return int(segments[counts.argmax()]) if len(segments) else 0


def _layers(
    truth: np.ndarray,
    predicted: np.ndarray,
    errors: SegmentErrors,
    behind: Mapping[int, int],
    truth_names: Mapping[int, str],
    predicted_names: Mapping[int, str],
) -> list[_Layer]:
    """The segments from back to front; `behind` says what misnamed ones really are."""

    def label(before: str, segment: int, names: Mapping[int, str]) -> str:
        return before + names[segment] if segment in names else ''

    layers = [_Layer(predicted == segment, _RIGHT) for segment in errors.right]
    layers.append(_Layer((truth == 0) & ~np.isin(predicted, list(errors.right)), _VOID))
    layers += [_Layer(truth == segment, _IGNORED) for segment in errors.ignored]
    layers += [_Layer(predicted == segment, _IGNORED) for segment in errors.excused]
    for segment in errors.misnamed:
        true_name = truth_names.get(behind[segment])
        text = label('' if true_name is None else f'{true_name} as ', segment, predicted_names)
        layers.append(_Layer(predicted == segment, _MISNAMED, text))
    for segment in set(errors.missed) - set(behind.values()):
        layers.append(_Layer(truth == segment, _MISSED, label('-', segment, truth_names)))
    for segment in set(errors.wrong) - set(errors.misnamed):
        layers.append(_Layer(predicted == segment, _WRONG, label('+', segment, predicted_names)))
    return layers


def _paint(picture: np.ndarray, layers: Sequence[_Layer]) -> None:
    """All tints, then all stripes and outlines: no tint hides the stripes of another segment."""
    for mask, style, _ in layers:
        blend(picture, mask, style.color, style.tint)
    for mask, style, _ in layers:
        if style.stripes > style.tint:
            row, column = np.indices(mask.shape)
            blend(picture, mask & ((column - style.slope * row) % PERIOD < STRIPE), style.color, style.stripes)
        if style.outline:
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, style.color, style.outline, cv2.LINE_AA)


def _write_labels(picture: np.ndarray, layers: Sequence[_Layer]) -> np.ndarray:
    """Labels on the segments that have one, each where no smaller labelled segment lies."""
    labelled = sorted((layer for layer in layers if layer.label), key=lambda layer: -np.count_nonzero(layer.mask))
    ids = np.zeros(picture.shape[:2], np.int32)
    for index, layer in enumerate(labelled, start=1):
        ids[layer.mask] = index
    names = {index: layer.label for index, layer in enumerate(labelled, start=1)}
    return write_labels(picture, ids, names, least_area=NAMED_AREA)

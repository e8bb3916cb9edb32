"""The report of an evaluation: one HTML page with the numbers, the classes, and what went best and worst.

The page needs no other file and no network: styles, script and pictures are inside it.
"""

import base64
import dataclasses
import math
import numbers
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jinja2
import markupsafe
import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.evaluation.panoptic_quality import PanopticCounts
from sognet_jax.evaluation.summary import FUSIONS
from sognet_jax.pictures import errors as error_pictures

MISSING = '–'

COLORS = ('MISSED', 'WRONG', 'MISNAMED', 'RIGHT', 'IGNORED', 'RIGHT_ORDER', 'UNKNOWN_ORDER')
"""Of the pictures: their legends have the same."""

PANEL_HEIGHT = 320
"""A good height for pictures of a report, in pixels."""

PICTURE_PIXELS = 160_000
"""Larger pictures are reduced to about so many pixels, so that 24 photos with 5 panels each stay below 8 MB."""

JPEG_SETTINGS = (
    *(cv2.IMWRITE_JPEG_QUALITY, 85),
    *(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    # Colours as sharp as brightness: stripes and arrows are thin.
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)

PANELS = {
    'image': 'input',
    'ground_truth': 'ground truth',
    'prediction': 'prediction',
    'errors': 'errors',
    'overlap_graph': 'scene overlap graph',
}
"""The pictures of a card, in the order in which they are shown, and their titles."""


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class in the table. Percents; NaN where there is nothing to measure."""

    name: str
    color: tuple[int, int, int]
    is_thing: bool
    pq: float  # panoptic quality
    sq: float  # segmentation quality
    rq: float  # recognition quality
    true_positives: int
    false_positives: int
    false_negatives: int
    iou: float = math.nan  # of the semantic head
    ap: float = math.nan  # of masks


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCard:
    """One image: how good it is, and its pictures."""

    name: str
    pq: float  # panoptic quality in percent; NaN without panoptic annotation
    true_positives: int
    false_positives: int
    false_negatives: int
    wrong_orders: int | None = None  # pairs whose order is wrong or missed; None where O is not known
    known_orders: int = 0  # of how many
    # `[h, w, 3]` uint8 RGB. None leaves a picture out
    image: np.ndarray | None = None
    ground_truth: np.ndarray | None = None
    prediction: np.ndarray | None = None
    errors: np.ndarray | None = None
    overlap_graph: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """Everything on the page."""

    title: str
    facts: Mapping[str, str]  # what was evaluated and how, label -> value
    metrics: Mapping[str, float]  # in percent (`order_pairs...`: numbers), as in `metrics.json`; any may be absent
    classes: Sequence[ClassRow] = ()  # rows of the table, in the order in which they stand at first
    # Images, worst or best first. One that is in both is in the page once.
    worst: Sequence[ImageCard] = ()
    best: Sequence[ImageCard] = ()


def class_rows(counts: PanopticCounts, metrics: Mapping[str, float], categories: CategorySet) -> list[ClassRow]:
    """The rows of all classes of which a segment, IoU or AP is known, stuff first.

    Args:
        counts: true and false positives and false negatives by semantic train id.
        metrics: `PQ/name`, `SQ/name`, `RQ/name`, `IoU/name`, `mask_AP/name`.
    """
    rows = []
    numbers = zip(counts.true_positives, counts.false_positives, counts.false_negatives, strict=True)
    for index, (category, segments) in enumerate(zip(categories.all, numbers, strict=True)):
        kinds = ('PQ', 'SQ', 'RQ', 'IoU', 'mask_AP')
        pq, sq, rq, iou, ap = (metrics.get(f'{kind}/{category.name}', math.nan) for kind in kinds)
        if any(segments) or not math.isnan(iou) or not math.isnan(ap):
            right, wrong, missed = map(int, segments)
            is_thing = categories.is_thing(index)
            rows.append(ClassRow(category.name, category.color, is_thing, pq, sq, rq, right, wrong, missed, iou, ap))
    return rows


def report_html(report: Report) -> str:
    """The page as text.

    Raises:
        ValueError: a picture is not `[h, w, 3]` uint8.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        'percent': lambda value: f'{value:.1f}' if _is_known(value) else MISSING,
        'whole': lambda value: f'{int(value):,}' if _is_known(value) else MISSING,
        'length_of_bar': lambda value: f'{min(max(value, 0), 100) if _is_known(value) else 0:.2f}',
        'sorted_by': lambda value: markupsafe.Markup(f' data-value="{value:.4f}"' if _is_known(value) else ''),
        'rgb': lambda color: f'rgb({", ".join(map(str, color))})',
        'embedded': _embedded,
    }
    # Each card once, with its places in the two lists; without the script the worst come first.
    cards: dict[tuple[Any, ...], tuple[ImageCard, dict[str, int]]] = {}
    for which, of_list in (('worst', report.worst), ('best', report.best)):
        for place, card in enumerate(of_list, start=1):
            _, places = cards.setdefault(_content(card), (card, {}))
            places.setdefault(which, place)
    return environment.get_template('page.html').render(
        {field.name: getattr(report, field.name) for field in dataclasses.fields(report)},
        metrics={name: value if _is_known(value) else None for name, value in report.metrics.items()},
        colors={name.lower().replace('_', '-'): getattr(error_pictures, f'{name}_COLOR') for name in COLORS},
        cards=cards.values(),
        panels=PANELS,
        fusions=FUSIONS,
    )


def _content(card: ImageCard) -> tuple[Any, ...]:
    """What a card has, as a key."""
    values = (getattr(card, field.name) for field in dataclasses.fields(card))
    return tuple((x.shape, x.tobytes()) if isinstance(x, np.ndarray) else str(x) for x in values)


def _is_known(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not math.isnan(value)


def _embedded(picture: np.ndarray, title: str) -> tuple[str, int, int]:
    """A picture as its own address, PNG where that is smaller, as for flat colours, else JPEG; and width and height."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f'{title}: expected [h, w, 3] uint8, got {picture.shape} {picture.dtype}')
    factor = min(math.sqrt(PICTURE_PIXELS / (picture.shape[0] * picture.shape[1])), 1.0)
    if factor < 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, png = cv2.imencode('.png', bgr)
    _, jpeg = cv2.imencode('.jpg', bgr, JPEG_SETTINGS)
    kind, content = ('png', png) if len(png) <= len(jpeg) else ('jpeg', jpeg)
    address = f'data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode()}'
    return address, picture.shape[1], picture.shape[0]

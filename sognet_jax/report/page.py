"""The report of an evaluation: one HTML page with the numbers, the classes, and what went best and worst.

The page needs no other file and no network: styles, script and pictures are inside it.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import math
import pathlib
import string
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.evaluation.panoptic_quality import PanopticCounts
from sognet_jax.files import write_whole
from sognet_jax.pictures import errors as error_pictures
from sognet_jax.report.numbers import count, percent, quality_tiles, relation_blocks, track

PAGE = pathlib.Path(__file__).with_name('page.html')
"""The page around what is filled in; its `${names}` are places for that."""

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
    """One class in the table. Percents; NaN where there is nothing to measure.

    Attributes:
        name: of the class.
        color: RGB of its swatch.
        is_thing: or stuff.
        pq, sq, rq: panoptic, segmentation and recognition quality.
        true_positives, false_positives, false_negatives: numbers of segments.
        iou: of the semantic head.
        ap: of masks.
    """

    name: str
    color: tuple[int, int, int]
    is_thing: bool
    pq: float
    sq: float
    rq: float
    true_positives: int
    false_positives: int
    false_negatives: int
    iou: float = math.nan
    ap: float = math.nan


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCard:
    """One image: how good it is, and its pictures.

    Attributes:
        name: of its file.
        pq: panoptic quality in percent; NaN without panoptic annotation.
        true_positives, false_positives, false_negatives: numbers of segments.
        wrong_orders, known_orders: pairs whose order is wrong or missed, of how many; None where O is not known.
        image, ground_truth, prediction, errors, overlap_graph: `[h, w, 3]` uint8 RGB; None leaves a picture out.
    """

    name: str
    pq: float
    true_positives: int
    false_positives: int
    false_negatives: int
    wrong_orders: int | None = None
    known_orders: int = 0
    image: np.ndarray | None = None
    ground_truth: np.ndarray | None = None
    prediction: np.ndarray | None = None
    errors: np.ndarray | None = None
    overlap_graph: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """Everything on the page.

    Attributes:
        title: of the page.
        facts: what was evaluated and how, label -> value.
        metrics: name -> percent (`order_pairs...`: numbers), named as in `metrics.json`; any may be absent or NaN.
        classes: rows of the table, in the order in which they stand at first.
        worst, best: images, worst or best first. One that is in both is in the page once.
    """

    title: str
    facts: Mapping[str, str]
    metrics: Mapping[str, float]
    classes: Sequence[ClassRow] = ()
    worst: Sequence[ImageCard] = ()
    best: Sequence[ImageCard] = ()


def class_rows(counts: PanopticCounts, metrics: Mapping[str, float], categories: CategorySet) -> list[ClassRow]:
    """The rows of all classes of which a segment, IoU or AP is known, stuff first.

    Args:
        counts: true and false positives and false negatives by semantic train id.
        metrics: `PQ/name`, `SQ/name`, `RQ/name`, `IoU/name`, `mask_AP/name`.
        categories: names and colours.
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


def write_report(report: Report, path: str | pathlib.Path) -> None:
    """Writes the page; until it is complete, nothing and no older page at `path` is changed.

    Raises:
        ValueError: a picture is not `[h, w, 3]` uint8.
        OSError: the file cannot be written.
    """
    write_whole(path, report_html(report))


def report_html(report: Report) -> str:
    """The page as text.

    Raises:
        ValueError: a picture is not `[h, w, 3]` uint8.
    """
    facts = ''.join(
        f'<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>' for label, value in report.facts.items()
    )
    page = string.Template(PAGE.read_text(encoding='utf-8'))
    return page.substitute(
        title=_text(report.title),
        colors=_colors(),
        facts=facts,
        tiles=quality_tiles(report.metrics),
        relations=relation_blocks(report.metrics),
        classes=''.join(map(_class_row, report.classes)),
        num_classes=str(len(report.classes)),
        cards=_cards(report),
        num_worst=str(len(report.worst)),
        num_best=str(len(report.best)),
    )


def _colors() -> str:
    """The colours of the pictures as CSS variables, for the legends."""
    names = ('MISSED', 'WRONG', 'MISNAMED', 'RIGHT', 'IGNORED', 'RIGHT_ORDER', 'UNKNOWN_ORDER')
    colors = ((name.lower().replace('_', '-'), getattr(error_pictures, f'{name}_COLOR')) for name in names)
    return ' '.join(f'--{name}: {_rgb(color)};' for name, color in colors)


def _class_row(row: ClassRow) -> str:
    kind = 'thing' if row.is_thing else 'stuff'
    swatch = f'<i class="swatch" style="background:{_rgb(row.color)}"></i>'
    name = f'<th scope="row" data-value="{_text(row.name)}">{swatch}{_text(row.name)}</th>'
    quality = f'<td class="pq"{_value(row.pq)}><span>{track(row.pq)}<b>{percent(row.pq)}</b></span></td>'
    numbers = (row.true_positives, row.false_positives, row.false_negatives)
    counts = ''.join(f'<td data-value="{number}">{count(number)}</td>' for number in numbers)
    sq, rq, iou, ap = (f'<td{_value(value)}>{percent(value)}</td>' for value in (row.sq, row.rq, row.iou, row.ap))
    kind_cell = f'<td class="kind" data-value="{kind}">{kind}</td>'
    return f'<tr data-kind="{kind}">{name}{kind_cell}{quality}{sq}{rq}{counts}{iou}{ap}</tr>\n'


def _cards(report: Report) -> str:
    """The cards, each once, with its places in the two lists; without the script the worst come first."""
    contents = {card: _card(card) for card in {*report.worst, *report.best}}
    places: dict[str, dict[str, int]] = {}
    for which, cards in (('worst', report.worst), ('best', report.best)):
        for place, card in enumerate(cards, start=1):
            places.setdefault(contents[card], {}).setdefault(which, place)
    articles = []
    for content, ranks in places.items():
        data = ''.join(f' data-{which}="{place}"' for which, place in ranks.items())
        articles.append(f'<article class="card"{data}>{content}</article>\n')
    return ''.join(articles)


def _card(card: ImageCard) -> str:
    quality = f'<span class="pq">PQ {track(card.pq)}<b>{percent(card.pq)}</b></span>'
    counts = (('TP', card.true_positives), ('FP', card.false_positives), ('FN', card.false_negatives))
    facts = ''.join(f'<span>{kind} <b>{count(number)}</b></span>' for kind, number in counts)
    if card.wrong_orders is not None:
        orders = f'<b>{card.wrong_orders}</b> of {card.known_orders} orders wrong'
        facts += f'<span>{orders if card.known_orders else "no known order"}</span>'
    pictures = ((field, getattr(card, field)) for field in PANELS)
    figures = ''.join(_figure(card.name, field, picture) for field, picture in pictures if picture is not None)
    return f'<header><h3>{_text(card.name)}</h3><p>{quality}{facts}</p></header><div class="panels">{figures}</div>'


def _figure(name: str, field: str, picture: np.ndarray) -> str:
    title = PANELS[field]
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f'{title} of {name}: expected [h, w, 3] uint8, got {picture.shape} {picture.dtype}')
    factor = min(math.sqrt(PICTURE_PIXELS / (picture.shape[0] * picture.shape[1])), 1.0)
    if factor < 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    height, width = picture.shape[:2]
    alt = _text(f'{title} of {name}')
    image = f'<img src="{_embedded(picture)}" width="{width}" height="{height}" loading="lazy" alt="{alt}">'
    button = f'<button type="button" aria-label="enlarge {alt}">{image}</button>'
    return f'<figure data-panel="{field}">{button}<figcaption>{title}</figcaption></figure>'


def _embedded(picture: np.ndarray) -> str:
    """A picture as its own address: PNG where that is smaller, as for flat colours, otherwise JPEG."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, png = cv2.imencode('.png', bgr)
    _, jpeg = cv2.imencode('.jpg', bgr, JPEG_SETTINGS)
    kind, content = ('png', png) if len(png) <= len(jpeg) else ('jpeg', jpeg)
    return f'data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode()}'


def _text(value: str) -> str:
    return html.escape(str(value))


def _value(value: float) -> str:
    """What a cell is sorted by; nothing where there is no value."""
    return '' if math.isnan(value) else f' data-value="{value:.4f}"'


def _rgb(color: Sequence[int]) -> str:
    return f'rgb({", ".join(str(int(part)) for part in color)})'

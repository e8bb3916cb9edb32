"""The report: one page that holds everything, says what it is told, and takes no harm from odd names and numbers."""

import base64
import dataclasses
import html.parser
import math
import re

import cv2
import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.evaluation.panoptic_quality import match_segments
from sognet_jax.files import write_whole
from sognet_jax.pictures import errors as error_pictures
from sognet_jax.report.page import (
    PANEL_HEIGHT,
    PICTURE_PIXELS,
    ClassRow,
    ImageCard,
    Report,
    class_rows,
    report_html,
)

VOID_ELEMENTS = {'meta', 'link', 'img', 'input', 'br', 'path'}
EVIL = '</script><script>alert("1")</script>'


class Page(html.parser.HTMLParser):
    """The elements of a page as (tag, attributes, text right inside); checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), '']
        self.elements.append(element)
        if tag not in VOID_ELEMENTS:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ''])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][2] += data

    def find(self, tag, **attributes):
        return [
            element
            for element in self.elements
            if element[0] == tag and all(element[1].get(name) == value for name, value in attributes.items())
        ]


def picture(seed, height=40, width=60):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def card(seed, name=None, **changes):
    pictures = {'image': picture(seed), 'errors': picture(seed + 100)}
    return ImageCard(name or f'{seed}.jpg', 10.0 * seed, 3, 1, 2, 1, 4, **(pictures | changes))


def row(name, is_thing=True, **changes):
    return dataclasses.replace(ClassRow(name, (1, 2, 3), is_thing, 50.0, 80.0, 62.5, 1203, 2, 1, 55.5, 33.3), **changes)


METRICS = {
    'PQ': 64.81, 'SQ': 82.0, 'RQ': 76.0, 'PQ_things': 54.2, 'mIoU': 66.3, 'mask_AP': 38.4, 'mask_AP50': 61.2,
    'OA': 96.4, 'OA_zero': 82.9, 'order_accuracy': 86.6, 'order_accuracy_zero': 0.0,
    'order_accuracy_category_rule': 73.0, 'order_accuracy_geometry_rule': 73.7, 'order_pairs': 1203.0,
    'order_accuracy_predicted': 81.9, 'order_pairs_predicted': 944.0,
}  # fmt: skip


def report(**changes):
    full = Report('A title', {'config': 'configs/shapes.py'}, METRICS, [row('ball'), row('sand', False)], [card(1)])
    return dataclasses.replace(full, **changes)


def visible_text(page):
    return ' '.join(element[2].strip() for element in page.elements if element[0] not in ('script', 'style'))


def test_the_page_is_whole_and_shows_what_it_is_told():
    text = report_html(report())
    assert not re.search(r'\{[{%#]', text)
    page = Page(text)
    assert page.find('title')[0][2] == 'A title' == page.find('h1')[0][2]
    shown = visible_text(page)
    for part in ('configs/shapes.py', '64.8', '66.3', '38.4', '61.2', '12.9 above the best rule', '13.5 above O = 0'):
        assert part in shown
    assert '944 of 1,203 pairs' in shown and '1,203 overlapping pairs' in shown
    assert 'ball' in shown and '1.jpg' in shown
    assert len(page.find('tr', **{'data-kind': 'thing'})) == len(page.find('tr', **{'data-kind': 'stuff'})) == 1


def test_ids_and_the_script_s_selectors_fit():
    text = report_html(report())
    page = Page(text)
    ids = [element[1]['id'] for element in page.elements if 'id' in element[1]]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"find\('#([\w-]+)'", text)) <= set(ids)


def test_nothing_is_loaded_from_elsewhere():
    text = report_html(report(best=[card(2)]))
    page = Page(text)
    for tag, attributes, _ in page.elements:
        for name in ('src', 'href', 'srcset', 'action', 'data', 'poster'):
            value = attributes.get(name) or ''
            assert not value or value.startswith(('data:', '#')), (tag, value[:80])
    assert not re.search(r'https?://|//cdn|@import|url\s*\(', text)
    policy = page.find('meta', **{'http-equiv': 'Content-Security-Policy'})[0][1]['content']
    assert policy.startswith("default-src 'none'")


def test_text_from_data_stays_text():
    evil_card = card(1, name=EVIL)
    text = report_html(report(title=EVIL, facts={EVIL: EVIL}, classes=[row(EVIL)], worst=[evil_card]))
    assert 'alert("1")' not in text
    page = Page(text)
    assert len(page.find('script')) == 1
    # Title and heading, both sides of a fact, the class's cell, the card.
    assert sum(element[2] == EVIL for element in page.elements) >= 6
    name = next(element for element in page.find('th', scope='row') if 'data-value' in element[1])
    assert name[1]['data-value'] == EVIL
    assert page.find('img', alt=f'errors of {EVIL}')
    assert '{{ title }}' in report_html(report(title='{{ title }}'))


def test_missing_numbers_are_dashes():
    empty = Page(report_html(Report('t', {}, {})))
    assert '–' in visible_text(empty) and 'nan' not in visible_text(empty).lower()
    heroes = [element[2] for element in empty.find('b')]
    assert heroes and set(heroes) == {'–'}
    nothing = dict.fromkeys(METRICS, math.nan)
    rows = [row('ball', pq=math.nan, sq=math.nan, rq=math.nan, iou=math.nan, ap=math.nan)]
    cards = [dataclasses.replace(card(1), pq=math.nan, wrong_orders=None)]
    text = report_html(report(metrics=nothing, classes=rows, worst=cards))
    assert not re.search(r'\bnan\b', text, re.IGNORECASE)
    assert 'above' not in visible_text(Page(text)) and 'orders wrong' not in text
    # A cell without a value has nothing to be sorted by: it comes last.
    cells = [element for element in Page(text).find('td') if element[2] == '–' and 'data-value' not in element[1]]
    assert len(cells) >= 4


def test_the_true_order_is_there_where_it_is_known():
    assert 'true order' not in visible_text(Page(report_html(report())))
    true = {'order_accuracy_true': 72.3, 'order_accuracy_true_category_rule': 74.0, 'OA_true': 96.0, 'OA_zero_true': 96}
    shown = visible_text(Page(report_html(report(metrics=METRICS | true))))
    assert shown.count('against the true order') == 2
    assert '1.7 below the best rule' in shown and 'equal to O = 0' in shown


def test_bars_stay_inside_their_track():
    text = report_html(report(metrics=METRICS | {'OA': 250.0, 'OA_zero': -3.0}))
    widths = [float(width) for width in re.findall(r'(?:width|left):(-?[\d.]+)%"', text)]
    assert widths and min(widths) >= 0 and max(widths) == 100


def test_cells_can_be_sorted_by_their_values():
    page = Page(report_html(report(classes=[row('ball', pq=12.34567)])))
    assert page.find('td', **{'class': 'pq'})[0][1]['data-value'] == '12.3457'
    assert page.find('td', **{'data-value': '1203'})[0][2] == '1,203'
    columns = [element for element in page.find('th', scope='col') if element[1].get('class') in ('left', 'number')]
    assert len(columns) == 10


def test_a_picture_in_both_lists_is_embedded_once():
    shared = card(5)
    again = card(5)  # made anew, with the same content
    text = report_html(report(worst=[card(1), shared], best=[card(9), again]))
    page = Page(text)
    places = [(element[1].get('data-worst'), element[1].get('data-best')) for element in page.find('article')]
    assert places == [('1', None), ('2', '2'), (None, '1')]
    sources = [element[1]['src'] for element in page.find('img') if element[1].get('src')]
    assert len(sources) == len(set(sources)) == 6


def embedded(text):
    sources = [element[1]['src'] for element in Page(text).find('img') if element[1].get('src')]
    for source in sources:
        kind, content = re.fullmatch(r'data:image/(png|jpeg);base64,(.*)', source).groups()
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
        yield kind, decoded[..., ::-1]


def test_flat_pictures_are_kept_exactly_and_photos_well():
    flat = np.zeros((40, 60, 3), np.uint8)
    flat[:, 30:] = (200, 30, 10)
    photo = cv2.GaussianBlur(picture(3, 120, 160), (0, 0), 2)
    found = list(embedded(report_html(report(worst=[card(1, image=photo, errors=flat)]))))
    assert [kind for kind, _ in found] == ['jpeg', 'png']
    np.testing.assert_array_equal(found[1][1], flat)
    assert np.abs(found[0][1].astype(int) - photo).mean() < 3


def test_large_pictures_are_reduced_and_small_ones_kept():
    pictures = {'image': picture(1, 1024, 2048), 'errors': picture(2, PANEL_HEIGHT, PANEL_HEIGHT * 4 // 3)}
    (_, large), (_, small) = embedded(report_html(report(worst=[card(1, **pictures)])))
    assert small.shape == pictures['errors'].shape
    assert large.shape[0] * large.shape[1] == pytest.approx(PICTURE_PIXELS, rel=0.01)
    assert large.shape[1] == pytest.approx(2 * large.shape[0], abs=1)


def test_pictures_that_do_not_exist_are_left_out():
    page = Page(report_html(report(worst=[card(1, errors=None)])))
    assert [element[1]['data-panel'] for element in page.find('figure')] == ['image']


def test_the_legend_has_the_colours_of_the_pictures():
    style = Page(report_html(report())).find('style')[0][2]
    for name, color in (('missed', error_pictures.MISSED_COLOR), ('wrong', error_pictures.WRONG_COLOR)):
        assert f'--{name}: rgb({color[0]}, {color[1]}, {color[2]});' in style


@pytest.mark.parametrize(
    'broken',
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_a_failure_leaves_the_older_page(tmp_path, broken):
    path = tmp_path / 'eval' / 'report.html'
    write_whole(path, report_html(report()))
    assert path.read_text(encoding='utf-8') == report_html(report())
    with pytest.raises(ValueError, match=r'prediction of 1\.jpg: expected \[h, w, 3\] uint8'):
        write_whole(path, report_html(report(title='another', worst=[card(1, prediction=broken)])))
    assert [file.name for file in path.parent.iterdir()] == ['report.html']
    assert path.read_text(encoding='utf-8') == report_html(report())


def test_rows_of_classes_are_those_of_which_something_is_known():
    truth = np.repeat([1, 2, 3, 4], 25).reshape(10, 10)
    ball, sand, egg = (next(i for i, c in enumerate(SHAPES.all) if c.name == name) for name in ('ball', 'sand', 'egg'))
    matching = match_segments(truth, [(1, ball, False), (2, ball, False), (3, sand, False), (4, egg, True)], truth, [
        (1, ball), (2, sand), (3, sand), (4, ball)])  # fmt: skip
    metrics = {
        'PQ/ball': 66.7,
        'SQ/ball': 100.0,
        'RQ/ball': 66.7,
        'mask_AP/ball': 44.0,
        'IoU/leaf': 12.0,
        'IoU/cone': math.nan,
    }
    rows = {found.name: found for found in class_rows(matching.counts(SHAPES.num_classes), metrics, SHAPES)}
    assert list(rows) == ['sand', 'ball', 'leaf']
    assert (rows['ball'].pq, rows['ball'].ap, rows['ball'].is_thing, rows['sand'].is_thing) == (66.7, 44.0, True, False)
    assert (rows['sand'].true_positives, rows['sand'].false_positives, rows['sand'].false_negatives) == (1, 1, 0)
    assert rows['leaf'].iou == 12.0 and math.isnan(rows['leaf'].pq)

"""Masks and boxes before pycocotools: what its encoder writes is read alike, everything else is refused by its kind."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from sognet_jax.data.sources.coco.masks import agreed_box, is_normalised, read_mask
from sognet_jax.json_files import Notes
from sognet_jax.problems import Fault

SIZE = (60, 90)
BOX = (20.0, 10.0, 40.0, 30.0)


def mask_of(segmentation, size=SIZE):
    return read_mask(msgspec.Raw(json.dumps(segmentation).encode()), size, Notes())


def rectangle(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


@given(pixels=arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=200, deadline=None)
def test_run_lengths_in_either_form_are_those_of_the_official_encoder(pixels):
    rle = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    flat = np.concatenate([[0], pixels.ravel(order='F'), [0]]).astype(int)
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    compressed = mask_of({'size': list(rle['size']), 'counts': rle['counts'].decode()}, pixels.shape)
    plain = mask_of({'size': list(rle['size']), 'counts': counts}, pixels.shape)
    np.testing.assert_array_equal(coco_mask.decode(compressed.rle), pixels)
    np.testing.assert_array_equal(coco_mask.decode(plain.rle), pixels)
    assert compressed.rle == rle


@given(
    text=st.one_of(
        st.text(max_size=60), st.binary(min_size=1, max_size=60).map(lambda b: ''.join(chr(48 + i % 64) for i in b))
    )
)
@settings(max_examples=300, deadline=None)
def test_a_text_of_runs_is_a_whole_mask_or_refused(text):
    try:
        mask = mask_of({'size': list(SIZE), 'counts': text})
    except Fault as fault:
        assert fault.kind in ('broken segmentation', 'mask of another size')
    else:
        assert coco_mask.decode(mask.rle).shape == SIZE


@given(runs=st.lists(st.integers(0, 3), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_empty_runs_change_nothing(runs):
    """pycocotools decodes them, but stops comparing two masks where both have one."""
    runs = [*runs, 1]
    size = (1, sum(runs))
    pixels = np.repeat(np.arange(len(runs)) % 2, runs).reshape(size)
    rle = mask_of({'size': list(size), 'counts': runs}, size).rle
    np.testing.assert_array_equal(coco_mask.decode(rle), pixels)
    assert rle == coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))


WRONG = {
    'no number': (rectangle(float('nan'), 1, 5, 5), 'broken segmentation'),
    'infinite': (rectangle(1, float('-inf'), 5, 5), 'broken segmentation'),
    'far away': (rectangle(1e9, 1, 5, 5), 'outline outside the image'),
    'of a picture twice as large': (rectangle(100, 70, 60, 40), 'outline outside the image'),
    'an odd number of coordinates': ([[1, 2, 3, 4, 5, 6, 7]], 'broken segmentation'),
    'two points': ([[1, 2, 3, 4]], 'broken segmentation'),
    'one list': ([1, 2, 3, 4, 5, 6], 'broken segmentation'),
    'texts': ([['1', '2', '3', '4', '5', '6']], 'broken segmentation'),
    'nothing': (None, 'broken segmentation'),
    'no polygon': ([], 'no mask'),
    'thousands of polygons': ([[1, 1, 2, 1, 2, 2]] * 5_001, 'broken segmentation'),
    'a long way': ([[0, 0, 90, 60] * 20_000], 'broken segmentation'),
    'another size': ({'size': [90, 60], 'counts': [5400]}, 'mask of another size'),
    'runs of another size': ({'size': [60, 90], 'counts': [5000, 401]}, 'mask of another size'),
    'a negative run': ({'size': [60, 90], 'counts': [5401, -1]}, 'broken segmentation'),
    'a printed text of bytes': ({'size': [60, 90], 'counts': "b'PQQ1'"}, 'broken segmentation'),
    'no runs': ({'size': [60, 90], 'counts': ''}, 'broken segmentation'),
    'an enormous size': ({'size': [10**9, 10**9], 'counts': [10**18]}, 'broken segmentation'),
}


@pytest.mark.parametrize(('segmentation', 'kind'), WRONG.values(), ids=WRONG)
def test_what_is_no_mask_is_refused(segmentation, kind):
    with pytest.raises(Fault) as fault:
        mask_of(segmentation)
    assert fault.value.kind == kind


def row_major():
    """Runs of `BOX` along the rows."""
    pixels = np.zeros(SIZE, np.uint8)
    pixels[10:40, 20:60] = 1
    changes = np.flatnonzero(np.diff(np.concatenate([[0], pixels.ravel(), [0]]).astype(int)))
    return {'size': list(SIZE), 'counts': np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()}


SHARES = ', shares of the sides, 0..1'

CONVENTIONS = {
    'two corners': (rectangle(*BOX), (20, 10, 60, 40), 'bbox looks like [x1, y1, x2, y2]'),
    'a centre': (rectangle(*BOX), (40, 25, 40, 30), 'bbox looks like [centre x, centre y, width, height]'),
    'y before x': (rectangle(*BOX), (10, 20, 30, 40), 'bbox looks like [y, x, height, width]'),
    'shares': (rectangle(*BOX), (20 / 90, 10 / 60, 40 / 90, 30 / 60), f'bbox looks like [x, y, width, height]{SHARES}'),
    'shares of corners': (
        rectangle(*BOX),
        (20 / 90, 10 / 60, 60 / 90, 40 / 60),
        f'bbox looks like [x1, y1, x2, y2]{SHARES}',
    ),
    'shares of y before x': (
        rectangle(*BOX),
        (10 / 60, 20 / 90, 30 / 60, 40 / 90),
        f'bbox looks like [y, x, height, width]{SHARES}',
    ),
    'corners, y before x': (rectangle(*BOX), (10, 20, 40, 60), 'bbox looks like [y1, x1, y2, x2]'),
    'half a picture': (rectangle(*BOX), (10, 5, 20, 15), 'bbox looks like a picture 0.5 times as large'),
    'rows': (row_major(), BOX, 'bbox looks like the box of runs along the rows (COCO counts along the columns)'),
    'nothing': (rectangle(*BOX), (0, 0, 0, 0), 'bbox without an area'),
    'elsewhere': (rectangle(*BOX), (45, 2, 40, 30), 'bbox and mask disagree'),
    'a negative side': (rectangle(*BOX), (60, 10, -40, 30), 'bbox without an area'),
    'far away': (rectangle(*BOX), (3e4, 10, 40, 30), 'bbox and mask disagree'),
}


@pytest.mark.parametrize(('segmentation', 'box', 'kind'), CONVENTIONS.values(), ids=CONVENTIONS)
def test_a_box_that_is_not_its_masks_says_what_it_looks_like(segmentation, box, kind):
    mask = mask_of(segmentation)
    taken, fault = agreed_box(box, mask, SIZE)
    assert fault.kind == kind and 'bbox is [' in str(fault)
    assert taken.tolist() == agreed_box(None, mask, SIZE)[0].tolist()


@given(st.floats(0, 50), st.floats(0, 35), *(st.floats(2, 30) for _ in 'wh'), *(st.floats(-1.5, 1.5) for _ in 'wh'))
@settings(max_examples=100, deadline=None)
def test_a_box_as_annotators_draw_it_is_kept_and_a_missing_one_is_the_masks(x, y, width, height, wider, higher):
    mask = mask_of(rectangle(x, y, width, min(height, 23)))
    drawn = (x, y, width + wider, min(height, 23) + higher)
    corners = np.array([x, y, x + drawn[2], y + drawn[3]])
    taken, doubt = agreed_box(drawn, mask, SIZE)
    assert doubt is None
    np.testing.assert_allclose(taken, np.clip(corners, 0, [90, 60, 90, 60]), atol=1e-5)
    pixels = coco_mask.decode(mask.rle)
    if pixels.any():
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        assert agreed_box(None, mask, SIZE)[0].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_a_box_that_leaves_the_image_with_its_outline_is_cut_with_it():
    mask = mask_of(rectangle(70, 10, 26, 40))
    taken, doubt = agreed_box((70, 10, 26, 40), mask, SIZE)
    assert doubt is None and taken.tolist() == [70, 10, 90, 50]


def test_shares_of_the_sides_are_told_from_small_things():
    assert is_normalised(mask_of([[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]]))
    assert not is_normalised(mask_of([[0, 0, 1, 0, 1, 1, 0, 1]]))
    assert not is_normalised(mask_of([[0.5, 0.5, 2.5, 0.5, 2.5, 2.5]]))

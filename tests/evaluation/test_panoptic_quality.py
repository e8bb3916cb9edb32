"""Panoptic quality against the numbers of the official panopticapi."""

import json

import numpy as np
import pytest

from sognet_jax.categories import COCO
from sognet_jax.evaluation.panoptic_quality import PanopticCounts, count_image
from tests import golden_files

TRAIN_ID = {category.id: index for index, category in enumerate(COCO.all)}


def segments(rows):
    return [(int(row[0]), TRAIN_ID[int(row[1])], bool(row[2])) for row in rows if row[0] >= 0]


def count(truth, truth_rows, prediction, predicted_rows):
    predicted = [row[:2] for row in segments(predicted_rows)]
    return count_image(truth, segments(truth_rows), prediction, predicted, COCO.num_classes)


def check(images, expected):
    total = PanopticCounts.zeros(COCO.num_classes)
    for image, per_image in zip(images, expected['per_image'], strict=True):
        total += image
        for name, (iou, hits, wrong, missed) in per_image.items():
            index = TRAIN_ID[int(name)]
            assert image.iou[index] == pytest.approx(iou, abs=1e-12)
            counts = (image.true_positives[index], image.false_positives[index], image.false_negatives[index])
            assert counts == (hits, wrong, missed)
    is_thing = np.arange(COCO.num_classes) >= COCO.num_stuff
    for name, chosen in (('All', None), ('Things', is_thing), ('Stuff', ~is_thing)):
        summary = total.summary(chosen)
        average = expected['average'][name]
        assert summary['n'] == average['n']
        for metric in ('PQ', 'SQ', 'RQ'):
            assert summary[metric] == pytest.approx(average[metric.lower()], abs=1e-12)
    quality = total.quality()
    assert {COCO.all[index].id for index in np.flatnonzero(total.counted)} == set(map(int, expected['per_class']))
    for name, values in expected['per_class'].items():
        for metric in ('PQ', 'SQ', 'RQ'):
            assert quality[metric][TRAIN_ID[int(name)]] == pytest.approx(values[metric.lower()], abs=1e-12)


@golden_files.parametrize('pq_random')
def test_random_pairs_with_crowd_and_void_are_counted_as_officially(golden_path):
    golden = golden_files.load(golden_path)
    keys = ('gt', 'gt_segments', 'pred', 'pred_segments')
    images = [count(*arrays) for arrays in zip(*(golden[key] for key in keys), strict=True)]
    check(images, json.loads(golden_path.with_suffix('.json').read_text()))


@golden_files.parametrize('pq_sample')
def test_the_official_sample_images(golden_path):
    golden = golden_files.load(golden_path)
    expected = json.loads(golden_path.with_suffix('.json').read_text())
    truth = [(golden[f'gt{i}'], golden['gt_segments'][i]) for i in (0, 1)]
    predicted = [(golden[f'pred{i}'], golden['pred_segments'][i]) for i in (0, 1)]
    check([count(*pair, *other) for pair, other in zip(truth, predicted, strict=True)], expected['perturbed'])
    check([count(*pair, *pair) for pair in truth], expected['identical'])


def test_void_pixels_do_not_hurt_and_half_void_is_no_false_positive():
    truth = np.zeros((4, 4), np.int32)
    truth[:2] = 1
    prediction = np.ones((4, 4), np.int32)
    counts = count_image(truth, [(1, 0, False)], prediction, [(1, 0)], 2)
    assert counts.iou[0] == 1 and counts.true_positives[0] == 1
    counts = count_image(truth * 0, [], prediction, [(1, 1)], 2)
    assert counts.false_positives.sum() == 0


@pytest.mark.parametrize(
    ('prediction', 'listed', 'message'),
    [
        (np.full((2, 2), 7), [(1, 0)], r'prediction map has ids .*\[7\]'),
        (np.ones((2, 2), int), [(1, 0), (5, 0)], r'without a pixel: \[5\]'),
        (np.ones((2, 3), int), [(1, 0)], r'\(2, 3\)'),
    ],
)
def test_maps_that_contradict_their_segments_are_refused(prediction, listed, message):
    with pytest.raises(ValueError, match=message):
        count_image(np.ones((2, 2), int), [(1, 0, False)], prediction, listed, 1)

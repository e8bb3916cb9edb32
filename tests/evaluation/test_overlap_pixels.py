"""Overlap pixels against a loop over pixels, and what must hold of them whatever the detections."""

import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.data.records.schema import InstanceAnnotations
from sognet_jax.evaluation.overlap_pixels import (
    OverlapPixelCounts,
    correct_relations,
    find_overlap_pixels,
    match_detections,
)
from sognet_jax.evaluation.summary import table

SIZE = 14, 17
STUFF, CROWD = 5, 900
"""Segment ids."""


def encode(masks):
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def annotations(masks, classes, crowd):
    count = len(masks)
    return InstanceAnnotations(
        id=np.arange(count), category=np.asarray(classes), crowd=np.asarray(crowd, bool), box=np.zeros((count, 4)),
        rles=encode(masks), segment=np.arange(count), box_segment=np.arange(count),
    )  # fmt: skip


def rectangle(rng):
    mask = np.zeros(SIZE, bool)
    top, left = rng.integers(0, 6, 2)
    mask[top : top + rng.integers(4, 9), left : left + rng.integers(4, 11)] = True
    return mask


class Case:
    """A random image: overlapping instances, one of them crowd, void and stuff; detections, some of them twice."""

    def __init__(self, seed, *, doubled=True):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 6))
        truth_masks = [rectangle(rng) for _ in range(count)]
        crowd = np.arange(count) == 3
        self.truth = annotations(truth_masks, rng.integers(0, 2, count), crowd)
        self.ids = np.full(SIZE, STUFF)
        for index, mask in enumerate(truth_masks):
            self.ids[mask] = CROWD if crowd[index] else 10 + index
        self.ids[rng.uniform(size=SIZE) < 0.1] = 0
        self.chosen = np.flatnonzero(~crowd)
        has_segment = rng.uniform(size=len(self.chosen)) < 0.9
        self.own_segments = np.where(has_segment, 10 + self.chosen, 0)
        found = [mask ^ (rng.uniform(size=SIZE) < 0.05) for mask in truth_masks if rng.uniform() < 0.9]
        found += [rectangle(rng)] * int(rng.integers(0, 2 + doubled))
        found += found[:1] * (doubled and int(rng.integers(0, 2)))
        self.masks = np.array(found, bool).reshape(-1, *SIZE)
        self.classes = rng.integers(0, 2, len(found))
        if len(found) >= count and rng.uniform() < 0.8:
            self.classes[:count] = self.truth.category
        self.maps = {name: rng.integers(-1, len(found) + 1, SIZE) for name in ('one', 'other')}

    def metrics(self):
        found = match_detections(self.truth, self.chosen, encode(self.masks), self.classes)
        pixels = find_overlap_pixels(self.ids, self.own_segments, found, self.masks, self.classes)
        counts = OverlapPixelCounts()
        counts.add(pixels, self.maps)
        return counts.metrics()


def loop_metrics(case):
    """The definition, pixel by pixel."""
    height, width = case.ids.shape
    everywhere = [(y, x) for y in range(height) for x in range(width)]
    truth_masks = [coco_mask.decode(rle) for rle in case.truth.rles]
    ious = []
    for place, instance in enumerate(case.chosen):
        for detection in range(len(case.masks)):
            both = sum(bool(truth_masks[instance][at] and case.masks[detection][at]) for at in everywhere)
            either = sum(bool(truth_masks[instance][at] or case.masks[detection][at]) for at in everywhere)
            if case.truth.category[instance] == case.classes[detection] and either and both / either >= 0.5:
                ious.append((-both / either, place, detection))
    match = {}
    for _, place, detection in sorted(ious):
        if place not in match and detection not in match.values():
            match[place] = detection
    total, right = [0, 0], {name: [0, 0] for name in case.maps}
    for at in everywhere:
        claiming = [detection for detection in match.values() if case.masks[detection][at]]
        for place, detection in match.items():
            if case.ids[at] != 0 and case.ids[at] == case.own_segments[place] and detection in claiming:
                others = [other for other in claiming if other != detection]
                groups = [bool(others), any(case.classes[other] == case.classes[detection] for other in others)]
                for group in (0, 1):
                    total[group] += groups[group]
                    for name in right:
                        right[name][group] += groups[group] and case.maps[name][at] == detection
    metrics = {}
    for group, name in enumerate(('overlap_pixels', 'overlap_pixels_same_class')):
        metrics[name] = total[group]
        for fusion in case.maps:
            metrics[f'{name}/{fusion}'] = 100 * right[fusion][group] / total[group] if total[group] else math.nan
    return metrics


def test_the_metric_is_the_definition_written_as_a_loop():
    largest = np.zeros(2)
    for seed in range(60):
        case = Case(seed)
        expected, metrics = loop_metrics(case), case.metrics()
        assert metrics.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_equal(metrics[name], value, err_msg=f'{seed} {name}')
        largest = np.maximum(largest, [expected['overlap_pixels'], expected['overlap_pixels_same_class']])
    assert (largest >= 20).all(), 'the cases have something to count'


def test_the_order_of_detections_does_not_matter():
    for seed in range(20):
        case = Case(seed, doubled=False)
        expected = case.metrics()
        order = np.random.default_rng(seed).permutation(len(case.masks))
        new_place = np.append(np.argsort(order), [len(order), -1])  # the last two are no detection
        case.masks, case.classes = case.masks[order], case.classes[order]
        case.maps = {name: new_place[detections] for name, detections in case.maps.items()}
        np.testing.assert_equal(case.metrics(), expected)


def test_images_add_up_and_nothing_counted_is_no_metric():
    assert OverlapPixelCounts().metrics() == {}
    cases = [Case(seed) for seed in range(8)]
    whole, parts = OverlapPixelCounts(), OverlapPixelCounts()
    for case in cases:
        found = match_detections(case.truth, case.chosen, encode(case.masks), case.classes)
        pixels = find_overlap_pixels(case.ids, case.own_segments, found, case.masks, case.classes)
        part = OverlapPixelCounts()
        for counts in (whole, part):
            counts.add(pixels, case.maps)
        parts += part
    assert parts.metrics() == whole.metrics() and whole.metrics()['overlap_pixels'] > 100


@pytest.mark.parametrize(('columns', 'is_found'), [(5, True), (4, False)])
def test_a_detection_matches_from_an_iou_of_half_on(columns, is_found):
    mask, part = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    mask[:, :10] = part[:, :columns] = True
    truth = annotations([mask], [1], [False])
    assert (match_detections(truth, np.array([0]), encode([part]), np.array([1]))[0] == 0) == is_found
    assert match_detections(truth, np.array([0]), encode([mask]), np.array([0]))[0] == -1, 'another class'


def test_the_true_order_is_put_where_it_is_known():
    relations = np.arange(16.0).reshape(4, 4) / 100
    order = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]], bool)
    decided = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], bool)
    corrected = correct_relations(relations, np.array([3, 1, -1]), order, decided)  # instance 2 was not found
    expected = relations.copy()
    expected[3, 1], expected[1, 3], expected[1, 1], expected[3, 3] = 1, 0, 0, 0
    np.testing.assert_array_equal(corrected, expected)
    corrected = correct_relations(relations, np.array([3, -1, 0]), order, decided)
    expected = relations.copy()
    expected[3, 3], expected[0, 0] = 0, 0  # of instances 0 and 2 the order is not known
    np.testing.assert_array_equal(corrected, expected)


def test_the_table_has_what_was_compared():
    metrics = {'overlap_pixels': 1234.0, 'overlap_pixels_same_class': 0.0}
    metrics |= {'overlap_pixels/zero': 61.25, 'overlap_pixels_same_class/zero': math.nan}
    lines = table(metrics).splitlines()
    assert [line.split() for line in lines[2:]] == [['O', '=', '0', '61.2', '-'], ['of', 'so', 'many', '1,234', '0']]

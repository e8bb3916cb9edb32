"""R and R* against dense masks, and matching against numbers of the published code."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.data.records.relations import (
    NO_ROW,
    decide_pairs,
    find_pairs,
    map_rles,
    match_segments,
    match_segments_by_box,
    rle_areas,
)
from tests.support import golden_files


def encode(masks):
    return [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]


@pytest.fixture
def masks():
    rng = np.random.default_rng(0)
    masks = np.zeros((9, 40, 50), bool)
    for mask in masks[:-1]:
        y, x = rng.integers(0, 20, 2)
        h, w = rng.integers(6, 25, 2)
        mask[y : y + h, x : x + w] = rng.uniform(size=mask[y : y + h, x : x + w].shape) < 0.9
    return masks  # the last one is empty


def test_pairs_are_equation_11_on_dense_masks(masks):
    crowd = np.arange(9) == 4
    pairs, intersections = find_pairs(encode(masks), crowd)
    expected = {}
    for i in range(9):
        for j in range(i + 1, 9):
            smaller = min(masks[i].sum(), masks[j].sum())
            common = (masks[i] & masks[j]).sum()
            if smaller and common / smaller >= 0.1 and not crowd[[i, j]].any():
                expected[i, j] = common
    assert dict(zip(map(tuple, pairs.tolist()), intersections, strict=True)) == expected
    assert len(expected) > 3


@golden_files.parametrize('panoptic_train_')
def test_pairs_are_the_published_ones(golden_path):
    golden = golden_files.load(golden_path)
    rles = encode(golden['mask_gt'] == 1)
    pairs, _ = find_pairs(rles, np.zeros(len(rles), bool))
    actual = np.zeros((len(rles), len(rles)))
    actual[pairs[:, 0], pairs[:, 1]] = actual[pairs[:, 1], pairs[:, 0]] = 1
    np.testing.assert_array_equal(actual, golden['relation_gt_full'])


def test_the_instance_with_fewer_panoptic_pixels_is_covered(masks):
    rles = encode(masks)
    pairs, _ = find_pairs(rles, np.zeros(9, bool))
    rng = np.random.default_rng(1)
    rows = np.array([NO_ROW if i == 2 else i for i in range(9)])
    shares = [0.05, 0.05, 0.3, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05]
    indices = rng.choice(np.arange(10), size=masks.shape[1:], p=shares)
    covered, pixels = decide_pairs(rles, pairs, map_rles(indices, 9), rows)
    for (i, j), decision, counts in zip(pairs, covered, pixels, strict=True):
        common = indices[masks[i] & masks[j]]
        own = [0 if rows[k] == NO_ROW else np.sum(common == k + 1) for k in (i, j)]
        assert counts.tolist() == own
        unknown = 2 in (i, j) or own[0] == own[1]
        assert decision == (-1 if unknown else int(own[0] > own[1]))
    assert {-1, 0, 1} == set(covered.tolist())


def test_equal_counts_and_missing_segments_stay_undecided():
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2] = True
    ids = np.zeros((4, 4), int)
    ids[0], ids[1] = 1, 2
    pairs, _ = find_pairs(encode(masks), np.zeros(2, bool))

    def decision(rows):
        return decide_pairs(encode(masks), pairs, map_rles(ids, 2), np.array(rows))[0].tolist()

    assert decision([0, 1]) == [-1]
    assert decision([0, NO_ROW]) == [-1]
    ids[1, 0] = 1
    assert decision([0, 1]) == [1]


def test_segments_are_matched_by_category_and_best_overlap_one_to_one():
    masks = np.zeros((3, 6, 6), bool)
    masks[0, :4], masks[1, :3], masks[2, 4:] = True, True, True
    ids = np.zeros((6, 6), int)
    ids[:3], ids[4:] = 1, 2
    matched = match_segments(encode(masks), np.array([1, 1, 2]), map_rles(ids, 2), np.array([1, 3]))
    assert matched.tolist() == [NO_ROW, 0, NO_ROW]


def test_the_published_rule_takes_the_first_segment_of_a_box_and_later_ones_from_half_on():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    far, near, half = [0, 0, 2, 10], [0, 0, 4, 10], [0, 0, 5, 10]
    assert match_segments_by_box(boxes, np.array([far, near])).tolist() == [0, NO_ROW, NO_ROW]
    assert match_segments_by_box(boxes, np.array([near, half])).tolist() == [1, NO_ROW, NO_ROW]
    assert match_segments_by_box(boxes, np.array([half, near])).tolist() == [0, NO_ROW, NO_ROW]
    assert match_segments_by_box(boxes, np.array([[18, 0, 31, 9], half])).tolist() == [1, 0, NO_ROW]
    # A segment that touches no box goes to the first instance all the same: arg max of zeros.
    assert match_segments_by_box(boxes, np.array([[60, 20, 70, 30]])).tolist() == [0, NO_ROW, NO_ROW]
    assert match_segments_by_box(boxes[:0], np.array([far])).tolist() == []
    assert match_segments_by_box(boxes, np.zeros((0, 4))).tolist() == [NO_ROW] * 3


def test_masks_of_a_map_are_the_pixels_of_each_index(masks):
    indices = np.random.default_rng(2).integers(0, 4, (40, 50))
    indices[:, :7] = 3
    rles = map_rles(indices, 5)
    assert len(rles) == 5
    for index, rle in enumerate(rles):
        np.testing.assert_array_equal(coco_mask.decode(rle), indices == index + 1)
        assert rle == encode([indices == index + 1])[0]


@pytest.mark.parametrize('count', [0, 1, 255, 256, 300])
def test_any_number_of_masks_has_its_areas(count):
    """pycocotools' own function for a list ends at 255."""
    pixels = [np.arange(400).reshape(20, 20, order='F') < 1 + number for number in range(count)]
    rles = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in pixels]
    assert rle_areas(rles).tolist() == list(range(1, count + 1))

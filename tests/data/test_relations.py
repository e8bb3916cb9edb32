"""R and R* against dense masks, and against the check data of the real COCO sample."""

import json
import pathlib

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.data.coco.annotations import make_record, read_split
from sognet_jax.data.relations import decide_pairs, find_pairs, match_segments
from tests import golden_files

COCO_MINI = pathlib.Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'coco_mini'
needs_coco_mini = pytest.mark.skipif(not COCO_MINI.is_dir(), reason=f'no sample images in {COCO_MINI}')


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
    segments = np.array([0 if i == 2 else 70000 + i for i in range(9)])
    shares = [0.05, 0.3, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
    ids = rng.choice(np.append(segments, 5), size=masks.shape[1:], p=shares)
    covered, pixels = decide_pairs(rles, pairs, ids, segments)
    for (i, j), decision, counts in zip(pairs, covered, pixels, strict=True):
        common = ids[masks[i] & masks[j]]
        own = [np.sum(common == segments[k]) if segments[k] else 0 for k in (i, j)]
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
    assert decide_pairs(encode(masks), pairs, ids, np.array([1, 2]))[0].tolist() == [-1]
    assert decide_pairs(encode(masks), pairs, ids, np.array([1, 0]))[0].tolist() == [-1]
    ids[1, 0] = 1
    assert decide_pairs(encode(masks), pairs, ids, np.array([1, 2]))[0].tolist() == [1]


def test_segments_are_matched_by_category_and_best_overlap_one_to_one():
    masks = np.zeros((3, 6, 6), bool)
    masks[0, :4], masks[1, :3], masks[2, 4:] = True, True, True
    ids = np.zeros((6, 6), int)
    ids[:3], ids[4:] = 10, 20
    matched = match_segments(encode(masks), np.array([1, 1, 2]), ids, np.array([10, 20]), np.array([1, 3]))
    assert matched.tolist() == [0, 10, 0]


@needs_coco_mini
def test_the_real_sample_has_exactly_the_known_overlaps():
    expected = json.loads((COCO_MINI / 'annotations' / 'overlaps_val2017.json').read_text())
    split = read_split(COCO_MINI, 'val2017')
    assert len(split.images) == len(expected) == 11
    for index in range(len(split.images)):
        record = make_record(split, index)
        known = expected[f'{record.image_id:012d}']
        ids, pairs = record.instances.id, record.pairs
        ends = np.stack([ids[pairs.first], ids[pairs.second]], axis=-1)
        top = np.where(
            pairs.covered < 0, -1, np.take_along_axis(ends, 1 - np.maximum(pairs.covered, 0)[:, None], 1)[:, 0]
        )
        actual = {(frozenset(pair), front) for pair, front in zip(ends.tolist(), top.tolist(), strict=True)}
        assert actual == {(frozenset(pair['ann_ids']), pair['top'] or -1) for pair in known['pairs']}
        _, intersections = find_pairs(record.instances.rles, record.instances.crowd)
        assert sorted(intersections) == sorted(pair['intersection'] for pair in known['pairs'])
        _, pixels = decide_pairs(
            record.instances.rles,
            np.stack([pairs.first, pairs.second], -1),
            record.panoptic_ids(),
            record.instances.segment,
        )
        assert sorted(map(sorted, pixels.tolist())) == sorted(
            sorted(pair['panoptic_pixels']) for pair in known['pairs']
        )
        assert np.count_nonzero(record.instances.segment) == known['n_matched']

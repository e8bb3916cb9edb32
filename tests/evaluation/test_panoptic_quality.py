"""Panoptic quality against the numbers of the official panopticapi, and against a plain loop over pixels."""

import json
import threading

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sognet_jax.categories import COCO
from sognet_jax.evaluation.panoptic_quality import WRONG_AREA, PanopticCounts, match_segments
from sognet_jax.problems import Fault
from tests.support import golden_files
from tests.support.panoptic_quality import (
    OFFICIAL_ORDER,
    TRAIN_ID,
    AddedInParts,
    columns,
    count_image,
    random_image,
    segments,
)


def count(truth, truth_rows, prediction, predicted_rows):
    predicted = [row[:2] for row in segments(predicted_rows)]
    return match_segments(truth, segments(truth_rows), prediction, predicted).counts(COCO.num_classes)


def check_images(images, expected):
    for image, per_image in zip(images, expected['per_image'], strict=True):
        found = {str(COCO.all[index].id): [column[index] for column in columns(image)] for index in counted(image)}
        assert found == per_image


def check_total(total, expected):
    """The golden averages and qualities come from two (or 4 to 12) processes, the sums of IoU from one an image."""
    in_two, by_image = AddedInParts(total, 2), AddedInParts(total, len(total.matches))
    np.testing.assert_allclose(total.iou, in_two.iou, rtol=1e-15, atol=0)
    is_thing = np.array([COCO.all[index].id <= 90 for index in OFFICIAL_ORDER])
    for name, chosen in (('All', slice(None)), ('Things', is_thing), ('Stuff', ~is_thing)):
        summary = in_two.summary(OFFICIAL_ORDER[chosen])
        assert {metric.lower(): value for metric, value in summary.items()} == expected['average'][name]
        alone = total.summary(OFFICIAL_ORDER[chosen])
        assert alone == pytest.approx(summary, rel=1e-15, abs=0)
    assert {str(COCO.all[index].id) for index in counted(total)} == set(expected['per_class'])
    for name, values in expected['per_class'].items():
        index = TRAIN_ID[int(name)]
        found = {metric.lower(): column[index] for metric, column in in_two.quality().items()}
        found |= {key: column[index] for key, column in zip(('iou', 'tp', 'fp', 'fn'), columns(by_image), strict=True)}
        assert found == values


def counted(counts):
    return np.flatnonzero(counts.counted).tolist()


def check(images, expected):
    check_images(images, expected)
    total = PanopticCounts.zeros(COCO.num_classes)
    for image in images:
        total += image
    check_total(total, expected)


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


def plain_loop(truth, true_segments, prediction, predicted_segments):
    """Counts by category, [sum of IoU, matches, wrong, missed], pixel by pixel and segment by segment."""
    pixels, both = {'truth': {}, 'prediction': {}}, {}
    for true_id, predicted_id in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        pixels['truth'][true_id] = pixels['truth'].get(true_id, 0) + 1
        pixels['prediction'][predicted_id] = pixels['prediction'].get(predicted_id, 0) + 1
        both[true_id, predicted_id] = both.get((true_id, predicted_id), 0) + 1
    counts, done = {}, set()

    def tally(category):
        return counts.setdefault(category, [0.0, 0, 0, 0])

    for true_id, true_category, crowd in sorted(true_segments):
        for predicted_id, category in sorted(predicted_segments):
            common = both.get((true_id, predicted_id), 0)
            if crowd or category != true_category or common == 0:
                continue
            union = (
                pixels['prediction'][predicted_id] + pixels['truth'][true_id] - common - both.get((0, predicted_id), 0)
            )
            if union > 0 and common / union > 0.5:
                tally(category)[0] += common / union
                tally(category)[1] += 1
                done |= {('truth', true_id), ('prediction', predicted_id)}
    crowd_of = {}
    for true_id, category, crowd in true_segments:
        if crowd:
            crowd_of[category] = true_id
        elif ('truth', true_id) not in done:
            tally(category)[3] += 1
    for predicted_id, category in predicted_segments:
        if ('prediction', predicted_id) not in done:
            excused = both.get((0, predicted_id), 0) + both.get((crowd_of.get(category, -1), predicted_id), 0)
            if not excused / pixels['prediction'][predicted_id] > 0.5:
                tally(category)[2] += 1
    return counts


def by_category(counts):
    return {index: [column[index] for column in columns(counts)] for index in counted(counts)}


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_random_maps_are_counted_as_by_a_loop_over_pixels(seed):
    image = random_image(seed)
    assert by_category(count_image(*image, 4)) == plain_loop(*image)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_areas_of_a_file_that_are_those_of_the_map_change_nothing(seed):
    image = random_image(seed)
    areas = [float((image[0] == segment[0]).sum()) for segment in image[1]]
    with_areas, without = match_segments(*image, areas), match_segments(*image)
    for name, value in vars(without).items():
        np.testing.assert_array_equal(vars(with_areas)[name], value, err_msg=name)


@given(seed=st.integers(0, 2**32 - 1), error=st.sampled_from([-1, -0.25, 0.5, 1, 1000]), rest=st.booleans())
@settings(max_examples=200, deadline=None)
def test_other_areas_of_a_file_are_refused(seed, error, rest):
    """The first that is wrong is named, whether those behind it are wrong, too, or not."""
    image = random_image(seed)
    assume(image[1])
    pixels = [int((image[0] == segment[0]).sum()) for segment in image[1]]
    wrong = seed % len(pixels)
    areas = [area + error * (row == wrong or rest and row > wrong) for row, area in enumerate(pixels)]
    text = f'segment {image[1][wrong][0]} has {pixels[wrong]} pixels, its area in the JSON is {areas[wrong]:.15g}'
    with pytest.raises(Fault) as fault:
        match_segments(*image, areas)
    assert str(fault.value).split('; ')[0] == text and fault.value.kind == WRONG_AREA


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_every_segment_is_either_matched_missed_or_crowd_and_either_matched_wrong_or_excused(seed):
    truth, true_segments, prediction, predicted_segments = random_image(seed)
    matching = match_segments(truth, true_segments, prediction, predicted_segments)
    crowd = [index for index, segment in enumerate(true_segments) if segment[2]]
    assert sorted([*matching.true, *matching.missed, *crowd]) == list(range(len(true_segments)))
    assert sorted([*matching.predicted, *matching.wrong, *matching.excused]) == list(range(len(predicted_segments)))
    names = [
        (true_segments[true][0], predicted_segments[predicted][0])
        for true, predicted in zip(matching.true, matching.predicted, strict=True)
    ]
    assert names == sorted(names)
    for (true_id, predicted_id), iou in zip(names, matching.iou, strict=True):
        region = (prediction == predicted_id) & (truth != 0)
        assert iou == pytest.approx(((truth == true_id) & region).sum() / ((truth == true_id) | region).sum())


def test_sums_do_not_depend_on_how_images_were_grouped():
    images = [count_image(*random_image(seed), 4) for seed in range(60)]
    one_by_one = PanopticCounts.zeros(4)
    for image in images:
        one_by_one += image
    expected = np.zeros(4)
    for image in images:
        for categories, ious in image.matches:
            for category, iou in zip(categories, ious, strict=True):
                expected[category] += iou
    assert expected.min() > 0 and one_by_one.iou.tolist() == expected.tolist()
    for size in (2, 7, 30):
        total = PanopticCounts.zeros(4)
        for start in range(0, len(images), size):
            group = PanopticCounts.zeros(4)
            for image in images[start : start + size]:
                group += image
            total += group
        assert by_category(total) == by_category(one_by_one)
        assert total.summary() == one_by_one.summary()


def test_averages_are_summed_one_after_the_other_in_the_order_that_is_asked_for():
    rng = np.random.default_rng(0)
    counts = PanopticCounts.zeros(40)
    counts.matches.append((np.arange(40), rng.uniform(0.5, 1, 40)))
    for order in (np.arange(40), rng.permutation(40)):
        total = 0.0
        for category in order:
            total += float(counts.quality()['PQ'][category])
        assert counts.summary(order)['PQ'] == total / 40
    chosen = np.arange(40) >= 35
    assert counts.summary(chosen) == counts.summary(np.arange(35, 40)) and counts.summary(chosen)['n'] == 5
    assert PanopticCounts.zeros(3).summary() == {'PQ': 0, 'SQ': 0, 'RQ': 0, 'n': 0}


def test_void_pixels_do_not_hurt_and_half_void_is_no_false_positive():
    truth = np.zeros((4, 4), np.int32)
    truth[:2] = 1
    prediction = np.ones((4, 4), np.int32)
    counts = count_image(truth, [(1, 0, False)], prediction, [(1, 0)], 2)
    assert counts.iou[0] == 1 and counts.true_positives[0] == 1
    matching = match_segments(truth * 0, [], prediction, [(1, 1)])
    assert matching.excused.tolist() == [0] and matching.counts(2).false_positives.sum() == 0


def test_only_the_last_crowd_segment_of_a_category_excuses():
    truth = np.array([[1, 1, 1, 2, 2]])
    prediction = np.array([[7, 7, 7, 8, 8]])
    listed = [(7, 0), (8, 0)]
    crowds = [(1, 0, True), (2, 0, True)]
    assert match_segments(truth, crowds, prediction, listed).wrong.tolist() == [0]
    assert match_segments(truth, crowds[::-1], prediction, listed).wrong.tolist() == [1]


def test_true_segments_without_a_pixel_are_missed_and_ids_without_a_segment_are_not_void():
    truth = np.full((3, 3), 5)
    prediction = np.ones((3, 3), int)
    matching = match_segments(truth, [(6, 0, False)], prediction, [(1, 0)])
    assert matching.missed.tolist() == [0] and matching.wrong.tolist() == [0] and not len(matching.true)


def test_maps_without_pixels_and_without_segments():
    empty = np.zeros((0, 5), np.int32)
    assert not count_image(empty, [], empty, [], 2).counted.any()
    assert count_image(np.zeros((2, 2), int), [], np.zeros((2, 2), int), [], 2).summary()['n'] == 0


@pytest.mark.parametrize(
    ('prediction', 'listed', 'message'),
    [
        (np.full((2, 2), 7), [(1, 0)], r'prediction map has ids .*\[7\]'),
        (np.ones((2, 2), int), [(1, 0), (5, 0)], r'without a pixel: \[5\]'),
        (np.ones((2, 3), int), [(1, 0)], r'\(2, 3\)'),
        (np.full((2, 2), -1), [(1, 0)], r'prediction ids must be in 0\.\.16777215, got \[-1\]'),
        (np.full((2, 2), 2**24), [(1, 0)], r'prediction ids .* got \[16777216\]'),
        (np.ones((2, 2), int), [(1, 0), (0, 0)], r'prediction ids must be in 1\.\.16777215, got \[0\]'),
        (np.ones((2, 2), int), [(1, 0), (1, 1)], r'same id: \[1, 1\]'),
        (np.ones((2, 2), int), [(1, 3)], r'0\.\.0, got \[3\]'),
    ],
)
def test_maps_that_contradict_their_segments_are_refused(prediction, listed, message):
    truth = np.ones((2, 2), int), [(1, 0, False)]
    with pytest.raises(ValueError, match=message):
        count_image(*truth, prediction, listed, 1)
    # Nothing is left behind from the image that failed.
    assert count_image(*truth, truth[0], [(1, 0)], 1).iou.tolist() == [1]
    with pytest.raises(Fault, match=r'\[7\]'):
        count_image(*truth, np.full((2, 2), 7), [(1, 0)], 1)


def test_threads_do_not_disturb_each_other():
    images = [random_image(seed) for seed in range(40)]
    expected = [by_category(count_image(*image, 4)) for image in images]
    found = {}

    def run(name):
        found[name] = [[by_category(count_image(*image, 4)) for image in images] for _ in range(3)]

    threads = [threading.Thread(target=run, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [expected] * 3 for name in range(3)}

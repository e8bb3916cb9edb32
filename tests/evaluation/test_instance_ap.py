"""AP from in-memory annotations and detections, against numbers of pycocotools and where they are known."""

import types

import numpy as np
import pytest

from sognet_jax.evaluation import instance_ap
from sognet_jax.evaluation.instance_ap import SUMMARY_NAMES, Detections, InstanceTally
from sognet_jax.inference.pasting import encode_masks
from tests.support import golden_files


def half_open(corner_and_size):
    return np.concatenate([corner_and_size[:, :2], corner_and_size[:, :2] + corner_and_size[:, 2:]], axis=1)


def annotations(masks, category, crowd=None, box=None):
    crowd = np.zeros(len(masks), bool) if crowd is None else crowd
    box = tight(masks) if box is None else box
    return types.SimpleNamespace(category=np.asarray(category), crowd=crowd, box=box, rles=encode_masks(masks))


def detections(masks, category, score):
    return Detections(np.asarray(category), np.asarray(score), tight(masks), encode_masks(masks))


def tight(masks):
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        y, x = np.nonzero(mask)
        box[:] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return boxes


def rectangles(*corners, size=(40, 50)):
    masks = np.zeros((len(corners), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, corners, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


@golden_files.parametrize('coco_ap')
def test_matches_pycocotools(golden_path, capfd):
    golden = golden_files.load(golden_path)
    truth, found = (
        np.unpackbits(golden[name], axis=-1)[..., : golden['size']] > 0 for name in ('gt_masks', 'det_masks')
    )
    image, category, crowd = golden['gt_image_cat_crowd'].T
    det_image, det_category = golden['det_image_cat'].T
    num_categories = len(golden['ap_per_cat_segm'])
    tally = InstanceTally(num_categories)
    boxes = half_open(golden['gt_bbox_xywh'])
    for image_id in np.union1d(image, det_image).tolist():
        own, seen = image == image_id, det_image == image_id
        tally.add(
            image_id,
            annotations(truth[own], category[own] - 1, crowd[own] > 0, boxes[own]),
            detections(found[seen], det_category[seen] - 1, golden['det_scores'][seen]),
        )
    for kind, suffix in (('mask', 'segm'), ('box', 'bbox')):
        result = tally.average_precision(kind)
        # NaN stands where pycocotools has -1.
        stats = np.array([result.summary[name] for name in SUMMARY_NAMES])
        np.testing.assert_array_equal(
            np.where(np.isnan(stats), -1, stats).astype(np.float32), golden[f'stats_{suffix}']
        )
        by_category = np.where(np.isnan(result.by_category), -1, result.by_category)
        expected = np.nan_to_num(golden[f'ap_per_cat_{suffix}'], nan=-1)
        np.testing.assert_allclose(by_category, expected, rtol=1e-6)
    assert capfd.readouterr() == ('', '')


def random_tally(seed, num_images=12):
    """Rectangles that are found more or less, with crowd, equal scores, images and classes without any, all sizes."""
    rng = np.random.default_rng(seed)
    tally = InstanceTally(4)
    for image_id in range(num_images):
        corners = rng.integers(0, (60, 80), (rng.integers(0, 6), 2))
        boxes = np.concatenate([corners, corners + rng.lognormal(3, 1, corners.shape).astype(int) + 1], axis=1)
        drawn = rng.integers(0, max(len(boxes), 1), rng.integers(0, 20) if len(boxes) else 0)
        moved = boxes[drawn] + rng.integers(-3, 4, (len(drawn), 4))
        moved[:, :2] = np.clip(moved[:, :2], 0, (119, 149))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        category = rng.integers(0, 3, len(boxes))
        seen = np.where(rng.random(len(drawn)) < 0.8, category[drawn], rng.integers(0, 4, len(drawn)))
        tally.add(
            image_id,
            annotations(rectangles(*boxes, size=(200, 230)), category, rng.random(len(boxes)) < 0.2),
            detections(rectangles(*moved, size=(200, 230)), seen, np.round(rng.random(len(drawn)), seed % 3 + 1)),
        )
    return tally


@pytest.mark.parametrize('kind', ['mask', 'box'])
@pytest.mark.parametrize('peer', ['hotcoco', 'vernier'])
def test_peers_say_the_same_to_the_last_digit(peer, kind, monkeypatch):
    """Two other implementations in the place of pycocotools."""
    module = pytest.importorskip(peer, reason=f'needs {peer} (pip install -r requirements-peers.txt)')
    tallies = [random_tally(seed) for seed in range(6)]
    expected = [tally.average_precision(kind) for tally in tallies]
    monkeypatch.setattr(instance_ap, 'COCOeval', module.COCOeval)
    monkeypatch.setattr(instance_ap, 'COCO', getattr(module, 'COCO', instance_ap.COCO))
    for tally, ours in zip(tallies, expected, strict=True):
        found = tally.average_precision(kind)
        np.testing.assert_array_equal([*found.summary.values()], [*ours.summary.values()])
        np.testing.assert_array_equal(found.by_category, ours.by_category)
        assert 0 < ours.summary['AP'] < 1 and np.isnan(ours.by_category).any()


def test_the_truth_itself_is_perfect_and_missing_sizes_are_nan():
    tally = InstanceTally(3)
    masks = rectangles((0, 0, 20, 20), (10, 10, 50, 40), (30, 0, 40, 5))
    tally.add(7, annotations(masks, [0, 2, 0]), detections(masks, [0, 2, 0], [0.9, 0.8, 0.7]))
    for kind in ('mask', 'box'):
        result = tally.average_precision(kind)
        np.testing.assert_allclose(result.by_category, [1, np.nan, 1])
        assert result.summary['AP'] == pytest.approx(1) and result.summary['AP_small'] == pytest.approx(1)
        assert np.isnan(result.summary['AP_large'])


def test_boxes_and_masks_are_told_apart():
    # The right box around a mask that has a sixth of the pixels.
    truth = rectangles((0, 0, 30, 30))
    found = truth.copy()
    found[0, 10:20, 5:25] = found[0, 1:29, 1:5] = found[0, 1:10, 1:29] = found[0, 20:29, 1:29] = False
    tally = InstanceTally(1)
    tally.add(1, annotations(truth, [0]), detections(found, [0], [0.5]))
    assert tally.average_precision('box').summary['AP'] == pytest.approx(1)
    assert tally.average_precision('mask').summary['AP'] == 0


def test_a_false_alarm_has_the_size_of_what_is_compared():
    # A thin corner: few pixels in a box of more than 32^2. As a box it is no small false alarm, as a mask it is one.
    truth, corner = rectangles((38, 2, 46, 10)), rectangles((0, 0, 34, 2))
    corner[0, :34, :2] = True
    found = np.concatenate([corner, truth])
    tally = InstanceTally(1)
    tally.add(1, annotations(truth, [0]), detections(found, [0, 0], [0.9, 0.5]))
    assert tally.average_precision('box').summary['AP_small'] == pytest.approx(1)
    assert tally.average_precision('mask').summary['AP_small'] == pytest.approx(0.5)


def test_crowd_excuses_and_misses_and_false_alarms_count():
    truth = rectangles((0, 0, 10, 10), (20, 0, 50, 40))
    found = rectangles((22, 2, 30, 10), (0, 0, 10, 10), (0, 20, 10, 30))
    tally = InstanceTally(1)
    tally.add(1, annotations(truth, [0, 0], np.array([False, True])), detections(found, [0, 0, 0], [0.9, 0.8, 0.7]))
    assert tally.average_precision('mask').summary['AP'] == pytest.approx(1)
    # On a second image nothing is found, and the first detection of a third has nothing below it.
    tally.add(2, annotations(truth[:1], [0]), detections(found[:0], [], []))
    tally.add(3, annotations(truth[:0], []), detections(found[:1], [0], [0.95]))
    summary = tally.average_precision('mask').summary
    assert summary['AR_100'] == pytest.approx(0.5)
    # Recall up to one half (51 of the 101 points) has precision 1 / 2.
    assert summary['AP'] == pytest.approx(51 / 101 / 2)


def test_no_detection_at_all_and_no_image_at_all():
    tally = InstanceTally(2)
    assert np.isnan(tally.average_precision('mask').summary['AP'])
    truth = rectangles((0, 0, 10, 10))
    tally.add(1, annotations(truth, [1]), detections(truth[:0], [], []))
    for kind in ('mask', 'box'):
        result = tally.average_precision(kind)
        assert result.summary['AP'] == 0 and result.summary['AR_100'] == 0
        np.testing.assert_array_equal(result.by_category, [np.nan, 0])


def test_asking_twice_gives_the_same():
    truth, found = rectangles((0, 0, 10, 10), (3, 3, 20, 20)), rectangles((1, 0, 10, 10), (3, 3, 20, 18))
    tally = InstanceTally(1)
    tally.add(1, annotations(truth, [0, 0]), detections(found, [0, 0], [0.3, 0.6]))
    first = [tally.average_precision(kind).summary['AP'] for kind in ('mask', 'box')]
    assert first == [tally.average_precision(kind).summary['AP'] for kind in ('mask', 'box')]


def test_input_that_does_not_fit():
    masks = rectangles((0, 0, 10, 10))
    truth, found = annotations(masks, [0]), detections(masks, [0], [0.5])
    tally = InstanceTally(1)
    for wrong_truth, wrong_found, message in (
        (annotations(masks, [1]), found, r'annotations of image 4: thing classes \[1\] are not in 0..0'),
        (truth, detections(masks, [-1], [0.5]), r'detections of image 4: thing classes \[-1\]'),
        (truth, detections(masks, [0], [0.5, 0.4]), '2 scores for 1 detections of image 4'),
        (truth, detections(masks, [0, 0], [0.5]), r'detections of image 4: 1 masks, but categories \(2,\)'),
        (annotations(masks, [0], np.zeros(2, bool)), found, '2 crowd flags for 1 annotations of image 4'),
        (annotations(rectangles((0, 0, 9, 9), size=(40, 49)), [0]), found, 'masks of image 4 have different sizes'),
    ):
        with pytest.raises(ValueError, match=message):
            tally.add(4, wrong_truth, wrong_found)
    tally.add(4, truth, found)
    with pytest.raises(ValueError, match='image 4 was added before'):
        tally.add(4, truth, found)

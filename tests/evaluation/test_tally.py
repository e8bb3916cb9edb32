"""The sums of an evaluation over two small images, worked out by hand."""

import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.evaluation.instance_ap import Detections
from sognet_jax.evaluation.panoptic_quality import match_segments
from sognet_jax.evaluation.tally import ImageResult, ImageTruth, Tally, found_relations
from sognet_jax.scene import Scene, Segment

STUFF = SHAPES.num_stuff


class Instances:
    """Two instances: slot 0 under slot 1."""

    def __init__(self, masks):
        self.category, self.crowd = np.array([0, 1]), np.zeros(2, bool)
        self.rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
        self.box = np.array([[0, 0, 4, 4], [2, 0, 6, 4]], np.float32)


def scene():
    """4 x 8: stuff 0; instance 0 on columns 0..3, instance 1 on columns 2..5, in front."""
    masks = np.zeros((2, 4, 8), bool)
    masks[0, :, 0:4] = masks[1, :, 2:6] = True
    ids = np.full((4, 8), 9)
    ids[masks[0]], ids[masks[1]] = 10, 11
    order = np.array([[False, True], [False, False]])
    truth = ImageTruth(
        image_id=3,
        ids=ids,
        segments=[(9, 0, False), (10, STUFF, False), (11, STUFF + 1, False)],
        instances=Instances(masks),
        related=np.array([0, 1]),
        own_segments=np.array([10, 11]),
        order=order,
        true_order=order,
        decided=np.ones((2, 2), bool),
    )
    return truth, masks


def result(truth, masks, **changes):
    """Everything right, under other ids and in another order."""
    ids = np.select([truth.ids == 9, truth.ids == 10], [1, 30], 20)
    scene = {
        'panoptic': ids,
        'found': [Segment(1, 0, -1), Segment(20, STUFF + 1, 0), Segment(30, STUFF, 1)],
        'relations': np.array([[0, 0], [0.8, 0]]),
    }
    scene |= {name: changes.pop(name) for name in scene.keys() & changes.keys()}
    fields = {
        'scene': Scene(SHAPES, **scene),
        'true_relations': np.array([[0, 0.9], [0, 0]]),
        'detections': Detections(np.array([0, 1]), np.array([0.9, 0.8]), truth.instances.box, truth.instances.rles),
        'confusion': np.eye(SHAPES.num_classes, dtype=np.int64),
    }
    return ImageResult(**fields | changes)


def test_what_is_right_scores_100():
    truth, masks = scene()
    tally = Tally(SHAPES)
    matching = tally.add(truth, result(truth, masks))
    assert sorted(matching.true.tolist()) == [0, 1, 2]
    metrics = tally.metrics()
    for name in ('PQ', 'PQ_things', 'PQ_stuff', 'mIoU', 'mask_AP', 'box_AP', 'OA', 'OA_true', 'order_accuracy',
                 'order_accuracy_true', 'order_accuracy_predicted'):  # fmt: skip
        assert metrics[name] == pytest.approx(100), name
    assert metrics['OA_zero'] == 50 and metrics['order_pairs'] == metrics['order_pairs_predicted'] == 1
    assert metrics[f'mask_AP/{SHAPES.things[0].name}'] == pytest.approx(100)
    assert math.isnan(metrics[f'mask_AP/{SHAPES.things[2].name}'])


def test_what_is_wrong_is_counted():
    truth, masks = scene()
    tally = Tally(SHAPES)
    tally.add(truth, result(truth, masks))
    second = ImageTruth(**{**vars(truth), 'image_id': 4})
    ids = np.where(truth.ids == 11, 0, truth.ids)
    tally.add(
        second,
        result(
            truth, masks, panoptic=ids, found=[Segment(9, 0, -1), Segment(10, STUFF, 0)],
            relations=np.zeros((1, 1)), true_relations=np.array([[0, 0], [0.7, 0]]),
        ),
    )  # fmt: skip
    metrics = tally.metrics()
    assert metrics['order_accuracy'] == 50 and metrics['OA'] == 50, 'one of two pairs; both places of the second wrong'
    assert metrics['order_accuracy_predicted'] == 100 and metrics['order_pairs_predicted'] == 1
    assert metrics[f'PQ/{SHAPES.things[1].name}'] == pytest.approx(100 / 1.5)


def test_what_was_not_found_has_no_order():
    truth, masks = scene()
    wrong_class = [Segment(1, 0, -1), Segment(20, STUFF + 1, 0), Segment(30, STUFF + 5, 1)]
    found = result(truth, masks, found=wrong_class).scene
    matching = match_segments(truth.ids, truth.segments, found.panoptic, found.labels)
    relations = found_relations(truth, found, matching)
    assert np.isnan(relations[0]).all() and np.isnan(relations[:, 0]).all() and relations[1, 1] == 0


def test_what_is_not_annotated_or_not_predicted_is_left_out():
    truth, masks = scene()
    bare = ImageTruth(**{**vars(truth), 'ids': None, 'segments': [], 'instances': None})
    tally = Tally(SHAPES)
    found = result(truth, masks, true_relations=None, confusion=None)
    assert tally.add(bare, found) is None
    metrics = tally.metrics()
    assert math.isnan(metrics['PQ']) and not {'mIoU', 'OA', 'mask_AP', 'order_accuracy'} & metrics.keys()


def test_pairs_of_unknown_order_do_not_count():
    truth, masks = scene()
    undecided = ImageTruth(**{**vars(truth), 'order': np.zeros((2, 2), bool), 'decided': np.zeros((2, 2), bool)})
    tally = Tally(SHAPES)
    tally.add(undecided, result(truth, masks))
    metrics = tally.metrics()
    for name in ('OA', 'OA_zero', 'order_accuracy', 'order_accuracy_zero'):
        assert math.isnan(metrics[name]), name
    tally.add(ImageTruth(**{**vars(truth), 'image_id': 4}), result(truth, masks))
    assert tally.metrics()['OA'] == 100 and tally.metrics()['OA_zero'] == 50

"""Segments, boxes and overlap pairs of one prediction, against what was put into it."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from sognet_jax.categories import SHAPES, CategorySet
from sognet_jax.inference.prediction import Instances, Prediction
from sognet_jax.inference.result import Frame, Segmenter
from sognet_jax.pictures.prediction import prediction_picture
from sognet_jax.scene import LEAST_STRENGTH, Overlap
from tests.support.examples import inference_settings

NUM_STUFF = 3


@pytest.fixture
def prediction():
    """8 x 12: stuff 2, on it slot 0, on that slot 2; slot 1 has no pixel; the last two columns are padding."""
    panoptic = np.full((8, 12), 2, np.int32)
    panoptic[1:6, 1:7] = NUM_STUFF + 0
    panoptic[3:8, 4:9] = NUM_STUFF + 2
    panoptic[:, 10:] = NUM_STUFF + 1
    relations = np.zeros((4, 4), np.float32)
    relations[0, 2] = 0.75
    relations[2, 0] = LEAST_STRENGTH / 2
    relations[1, 0] = relations[0, 1] = 0.9
    instances = Instances(
        boxes=np.zeros((4, 4), np.float32),
        classes=np.array([5, 6, 7, 0]),
        scores=np.array([0.9, 0.8, 0.7, 0.0], np.float32),
        valid=np.array([True, True, True, False]),
        mask_logits=np.zeros((4, 28, 28), np.float32),
    )
    return Prediction(panoptic, np.full((8, 12), 2, np.int32), instances, relations)


def describe(prediction, original_size=(8, 10), **settings):
    settings = inference_settings(stuff_area_limit=4, **settings)
    categories = CategorySet('three', SHAPES.stuff[:NUM_STUFF], SHAPES.things)
    frame, image = Frame((8, 10), original_size, original_size[0] / 8), np.zeros((*original_size, 3), np.uint8)
    scene = Segmenter(settings, categories)(prediction, frame)
    return dataclasses.replace(scene, image=image, painter=prediction_picture)


def test_segments_say_what_the_map_shows(prediction):
    scene = describe(prediction)
    stuff, behind, front = scene.segments
    assert (stuff.category, stuff.instance, stuff.score) == (2, -1, None)
    assert (behind.category, behind.instance) == (NUM_STUFF + 5, 0) and behind.score == pytest.approx(0.9)
    assert (front.category, front.instance) == (NUM_STUFF + 7, 2) and front.score == pytest.approx(0.7)
    assert (stuff.box, behind.box, front.box) == ((0, 0, 10, 8), (1, 1, 7, 6), (4, 3, 9, 8))
    assert (stuff.area, behind.area, front.area) == (80 - 21 - 25, 21, 25)
    assert scene.instances == [behind, front] and front.name == SHAPES.things[7].name
    np.testing.assert_array_equal(behind.mask, scene.panoptic == behind.id)
    assert behind.mask.sum() == behind.area


def test_ids_may_be_any_colour(prediction):
    scene = describe(prediction)
    panoptic = np.where(scene.panoptic > 0, scene.panoptic * 1_000_003, 0)
    found = [one._replace(id=one.id * 1_000_003) for one in scene.found]
    recoloured = dataclasses.replace(scene, panoptic=panoptic, found=found)
    for mine, theirs in zip(recoloured.segments, scene.segments, strict=True):
        assert (mine.id, mine.area, mine.box) == (theirs.id * 1_000_003, theirs.area, theirs.box)
        np.testing.assert_array_equal(mine.mask, theirs.mask)


def test_pairs_are_of_visible_instances_and_name_who_covers_whom(prediction):
    scene = describe(prediction)
    _, behind, front = scene.segments
    assert scene.overlaps == [Overlap(covering=front.id, covered=behind.id, strength=0.75)]
    np.testing.assert_array_equal(scene.relations, prediction.relations[np.ix_([0, 2], [0, 2])])


def test_sizes_are_those_of_the_image(prediction):
    scene = describe(prediction, original_size=(16, 30))
    assert scene.panoptic.shape == (16, 30)
    assert scene.segments[1].box == (3, 2, 21, 12) and scene.segments[1].area == 6 * 21


def test_instances_that_are_outvoted_are_in_no_pair(prediction):
    scene = describe(prediction, vote=True)
    assert [segment.category for segment in scene.segments] == [2]
    assert scene.overlaps == [] and scene.relations.shape == (0, 0)


def test_a_map_without_any_segment(prediction):
    scene = describe(prediction._replace(panoptic=np.full((8, 12), -1, np.int32)))
    assert scene.segments == [] and scene.overlaps == [] and not scene.panoptic.any()


def test_a_scene_as_text_and_as_a_picture(prediction):
    scene = describe(prediction, original_size=(64, 80))
    content = json.loads(scene.to_json())
    assert content == json.loads(json.dumps(scene.to_dict())) and (content['height'], content['width']) == (64, 80)
    assert [segment['thing'] for segment in content['segments']] == [False, True, True]
    assert content['overlaps'] == [{'covering': 6, 'covered': 4, 'strength': 0.75}]
    shown = cv2.imdecode(np.frombuffer(scene._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown[..., ::-1], scene.picture())


def test_a_scene_without_its_image_has_no_picture(prediction):
    with pytest.raises(ValueError, match='image was not kept'):
        dataclasses.replace(describe(prediction), painter=None).picture()


def test_whole_masks_of_the_instances_that_are_seen(prediction):
    """Slots 0 and 2 in boxes that overlap: logits of 0 are no mask, high ones fill it."""
    logits, boxes = prediction.instances.mask_logits.copy(), prediction.instances.boxes.copy()
    logits[[0, 2]], boxes[0], boxes[2] = 9, (1, 1, 7, 6), (4, 3, 9, 8)
    scene = describe(prediction._replace(instances=prediction.instances._replace(mask_logits=logits, boxes=boxes)))
    assert scene.masks.shape == (2, 8, 10) and scene.masks.dtype == bool
    assert scene.masks.all(axis=0)[3:6, 4:7].all() and not scene.masks.any(axis=0)[:, 9].any()
    with pytest.raises(ValueError, match='was not predicted'):
        _ = dataclasses.replace(scene, paster=None).masks

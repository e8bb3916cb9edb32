"""From predictions to segments: the label prior's rules act on the classes that they name."""

import json

import numpy as np

from sognet_jax.categories import SHAPES
from sognet_jax.inference.prediction import Instances, Prediction
from sognet_jax.inference.result import Frame, Segmenter
from tests.support.examples import inference_settings

THINGS = [category.name for category in SHAPES.things]
FRAME = Frame((32, 32), (32, 32), 1.0)


def prediction():
    """Two squares that overlap: a ball with the better score, and a tray; a third detection is not certain."""
    boxes = np.array([[2, 2, 22, 22], [10, 10, 30, 30], [0, 0, 32, 32]], np.float32)
    classes = np.array([THINGS.index('ball'), THINGS.index('tray'), THINGS.index('star')])
    instances = Instances(
        boxes, classes, np.array([0.9, 0.8, 0.2], np.float32), np.ones(3, bool), np.full((3, 28, 28), 9, np.float32)
    )
    return Prediction(None, np.zeros((32, 32), np.int32), instances, np.zeros((3, 3)), instances)


def owner(tmp_path, on, under):
    """The class that has the middle of the overlap."""
    path = tmp_path / 'rules.json'
    path.write_text(json.dumps({'rules': [{'on': on, 'under': under}]}))
    settings = inference_settings(
        method='label_prior', label_prior=str(path), score_threshold=0.5, stuff_area_limit=1, free_fraction=0.3
    )
    scene = Segmenter(settings, SHAPES)(prediction(), FRAME)
    assert sorted(segment.instance for segment in scene.segments) == [-1, 0, 1]
    return {segment.id: segment.name for segment in scene.segments}[scene.panoptic[16, 16]]


def test_a_rule_decides_in_its_direction_alone(tmp_path):
    assert owner(tmp_path, 'tray', 'ball') == 'tray'
    assert owner(tmp_path, 'ball', 'tray') == 'ball'
    assert owner(tmp_path, 'star', 'ball') == 'ball', 'no rule: the better score'

"""The front door: a checkpoint as a function of an image."""

import dataclasses
import subprocess
import sys

import cv2
import numpy as np
import pytest

import sognet_jax
from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import CheckpointError
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import make_example
from sognet_jax.data.records.png import encode_image
from sognet_jax.data.records.schema import Record
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from tests.support.paths import ROOT
from tests.support.runs import save_tiny_network

pytestmark = pytest.mark.compiles


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Of fresh parameters; so small a threshold that they find something."""
    return save_tiny_network(tmp_path_factory.mktemp('run') / 'saved', score_threshold=0.02, stuff_area_limit=4)


@pytest.fixture(scope='module')
def model(checkpoint):
    return sognet_jax.load(checkpoint)


@pytest.fixture(scope='module')
def image():
    return cv2.resize(draw(ShapesSettings(), 0, 1).image(), (150, 90))


def test_a_scene_says_what_is_where(model, image):
    scene = model(image)
    assert isinstance(scene, sognet_jax.Scene) and scene.panoptic.shape == (90, 150)
    assert scene.segments and scene.instances
    for segment in scene.segments:
        assert segment.mask.sum() == segment.area > 0 and segment.name == SHAPES.all[segment.category].name
    assert scene.picture().dtype == np.uint8 and scene.to_json().startswith('{')


def test_a_scene_says_its_layers_from_the_relations_that_it_has(model, image):
    scene = model(image)
    assert sorted(sum(scene.layers, [])) == sorted(scene.instance_ids) and len(scene.instance_ids) > 1
    chain = np.eye(len(scene.instance_ids), k=1, dtype=np.float32)  # each is covered by the next one
    assert dataclasses.replace(scene, relations=chain).layers == [[one] for one in scene.instance_ids]
    assert dataclasses.replace(scene, layerer=None).layers == []


def test_several_images_are_what_each_is_and_orientation_is_free(model, image):
    upright = np.ascontiguousarray(image.transpose(1, 0, 2))
    scenes = model([image, upright])
    assert [scene.panoptic.shape for scene in scenes] == [(90, 150), (150, 90)]
    np.testing.assert_array_equal(scenes[0].panoptic, model(image).panoptic)


def test_the_network_gets_the_example_that_it_is_trained_with(model, image):
    record = Record(encode_image(image), 0, 'image.png', image.shape[:2])
    example = make_example(record, example_settings(model.config), either_orientation=True)
    arrays = model.prepare(image)
    for name in ('image', 'image_size', 'scale', 'original_size'):
        np.testing.assert_array_equal(arrays[name], example[name], err_msg=name)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((30, 40, 3), np.float32), r'\[30, 40, 3\] float32'),
        (np.zeros((30, 40), np.uint8), r'\[30, 40\] uint8'),
        (np.zeros((30, 40, 4), np.uint8), r'\[30, 40, 4\] uint8'),
        (np.zeros((0, 40, 3), np.uint8), r'\[0, 40, 3\] uint8'),
        (np.zeros((2, 900, 3), np.uint8), '900 x 2 pixels is too narrow'),
        ('photo.jpg', r'not \[\] <U9'),
    ],
)
def test_what_is_no_image_is_refused(model, image, message):
    with pytest.raises(ValueError, match=message):
        model(image)


def test_what_is_no_checkpoint_or_field_is_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match='no checkpoint in'):
        sognet_jax.load(tmp_path)
    with pytest.raises(ValueError, match="no field 'score'"):
        sognet_jax.load(checkpoint, score=0.3)
    with pytest.raises(ValueError, match='inference.outside'):
        sognet_jax.load(checkpoint, outside='far')


def test_importing_the_package_does_not_import_jax():
    code = "import sys, sognet_jax; print('load' in sognet_jax.__all__, 'jax' in sys.modules, 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ['True', 'False', 'False']

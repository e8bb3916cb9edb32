"""OpenRaster files, opened and rendered by pyora."""

import io
import zipfile

import cv2
import numpy as np
import pyora
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.order.openraster import EDGE, encode_openraster
from sognet_jax.scene import Scene

SIZE = (90, 130)


def made_up_scene(seed):
    """An image of noise, a map of discs and single pixels, and their layers, which have nothing to do with either."""
    rng = np.random.default_rng(seed)
    panoptic = np.zeros(SIZE, np.int32)
    panoptic[30:] = 7
    for segment in range(20, 32):
        center = rng.integers(0, SIZE[1]), rng.integers(0, SIZE[0])
        cv2.circle(panoptic, center, int(rng.choice([0, 2, 12, 30])), segment, -1)
    seen = [segment for segment in range(20, 32) if (panoptic == segment).any()]
    instances = [
        {'id': segment, 'category': 'egg & "ball"', 'score': round(rng.uniform(), 1), 'layer': int(rng.integers(0, 3))}
        for segment in seen
    ]
    return rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8), panoptic, instances


def encoded(image, panoptic, instances):
    return encode_openraster(Scene(SHAPES, panoptic, [], np.zeros((0, 0)), image), instances)


def opened(content):
    """The project, and its layers from the back to the front."""
    project = pyora.Project.load(io.BytesIO(content))
    return project, list(project.iter_layers)


@pytest.mark.parametrize('seed', range(6))
def test_layers_laid_on_each_other_are_the_image(seed):
    """By pyora's own renderer; what is half transparent anywhere in front lies on something opaque."""
    image, panoptic, instances = made_up_scene(seed)
    project, _ = opened(encoded(image, panoptic, instances))
    rendered = np.asarray(project.get_image_data(use_original=False)).astype(int)
    assert (rendered[..., 3] == 255).all()
    assert np.abs(rendered[..., :3] - image).max() <= 1


@pytest.mark.parametrize('seed', range(3))
def test_layers_hold_what_is_seen_of_their_instances_in_their_order(seed):
    image, panoptic, instances = made_up_scene(seed)
    _, layers = opened(encoded(image, panoptic, instances))
    stack = sorted(instances, key=lambda one: (one['layer'], one['score'], -one['id']))
    assert [layer.name for layer in layers] == ['background'] + [
        f'{one["category"]} {one["score"]:.2f}' for one in stack
    ]
    own_pixels = [~np.isin(panoptic, [one['id'] for one in stack])] + [panoptic == one['id'] for one in stack]
    for layer, own in zip(layers, own_pixels, strict=True):
        alpha = np.asarray(layer.get_image_data(raw=False))[..., 3]
        around = np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)
        inner, reached = cv2.erode(own.astype(np.uint8), around), cv2.dilate(own.astype(np.uint8), around, iterations=4)
        assert (alpha[inner > 0] == 255).all() and not alpha[reached == 0].any()
        assert own.sum() == 0 or alpha[own].min() > 0
        raw = np.asarray(layer.get_image_data(raw=True))
        x, y = layer.offsets
        visible = raw[..., 3] > 0
        np.testing.assert_array_equal(raw[visible, :3], image[y : y + raw.shape[0], x : x + raw.shape[1]][visible])
        assert visible.any(axis=0)[[0, -1]].all() and visible.any(axis=1)[[0, -1]].all()


def test_edges_are_soft_towards_what_lies_behind_and_opaque_below_what_lies_in_front():
    """A square on the right half, which lies on the background."""
    panoptic = np.zeros(SIZE, np.int32)
    panoptic[:, 60:] = 1
    panoptic[30:60, 80:110] = 2
    instances = [
        {'id': 1, 'category': 'a', 'score': 1.0, 'layer': 0},
        {'id': 2, 'category': 'b', 'score': 1.0, 'layer': 1},
    ]
    _, layers = opened(encoded(np.zeros((*SIZE, 3), np.uint8), panoptic, instances))
    behind, half, square = (np.asarray(layer.get_image_data(raw=False))[45, :, 3].astype(int) for layer in layers)
    assert (
        (np.diff(half[55:65]) >= 0).all() and half[57] == 0 and 0 < half[59] < 128 < half[60] < 255 and half[62] == 255
    )
    assert (np.diff(square[75:85]) >= 0).all() and 0 < square[79] < 128 < square[80] < 255
    assert (half[70:82] == 255).all() and half[95] == 0 and (behind[:62] == 255).all() and behind[100] == 0


def test_the_file_is_laid_out_as_the_standard_says():
    image, panoptic, instances = made_up_scene(0)
    content = encoded(image, panoptic, instances)
    assert content[30:54] == b'mimetypeimage/openraster'
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        merged = cv2.imdecode(np.frombuffer(archive.read('mergedimage.png'), np.uint8), cv2.IMREAD_COLOR)
        assert b'<image version="0.0.3" w="130" h="90">' in archive.read('stack.xml')
    np.testing.assert_array_equal(merged[..., ::-1], image)
    project, layers = opened(content)
    assert project.dimensions == SIZE[::-1] and len(layers) == len(instances) + 1


@pytest.mark.parametrize('size', [(1, 1), (700, 40), (3, 900)])
def test_thumbnails_of_every_shape(size):
    """Without instances, and with one that is everywhere: the background is a pixel then."""
    for instances in ([], [{'id': 1, 'category': 'a', 'score': 0.5, 'layer': 0}]):
        content = encoded(np.full((*size, 3), 90, np.uint8), np.ones(size, np.int32), instances)
        project, layers = opened(content)
        assert len(layers) == len(instances) + 1 and project.dimensions == size[::-1]
        assert max(pyora.Project.extract_thumbnail(io.BytesIO(content), pil=True).size) <= 256
        assert (np.asarray(project.get_image_data(use_original=False)) == [90, 90, 90, 255]).all()

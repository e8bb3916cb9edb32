"""The occlusion head at inference: whom it is asked, what O it makes, and how its answers place pixels."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.inference.prediction import Instances, Prediction, occlusion_relations, predict
from sognet_jax.inference.result import Frame, Segmenter, paste_instances
from sognet_jax.models.sognet import build_network, variable_shapes
from tests.support.examples import inference_settings, tiny_config

SIZE = 64
COUNT = 7


class Rule:
    """Stands in for the network: its occlusion head says that what is further down lies on the other."""

    has_occlusion_head = True

    def __init__(self, pairs):
        self.occlusion = {'pairs': pairs}

    def occlude(self, features, boxes, mask_logits, pairs, image_size):
        bottom = boxes[..., 3]
        return (jnp.take_along_axis(bottom, pairs.first, 1) - jnp.take_along_axis(bottom, pairs.second, 1)) / 8 - 0.01


@pytest.fixture(scope='module')
def rectangles():
    """`[B, K, ...]` boxes full of mask, in score order; and which are detections."""
    rng = np.random.default_rng(3)
    corner, extent = rng.integers(0, 36, (3, COUNT, 2)), rng.integers(10, 28, (3, COUNT, 2))
    boxes = np.concatenate([corner, corner + extent], axis=-1).astype(np.float32)
    valid = np.arange(COUNT) < np.array([[7], [5], [1]])
    return boxes, np.full((3, COUNT, 28, 28), 6.0, np.float32), valid


def shared(one, other):
    """The common part of two boxes over the smaller one, and over their union."""
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    areas, common = [np.prod(box[2:] - box[:2]) for box in (one, other)], max(width, 0) * max(height, 0)
    return common / min(areas), common / (sum(areas) - common)


@pytest.mark.parametrize(('limit', 'largest_iou', 'pairs'), [(4, 1.0, 6), (60, 1.0, 9), (60, 0.2, 6)])
def test_relations_are_those_of_a_loop_over_pairs(rectangles, limit, largest_iou, pairs):
    boxes, logits, valid = rectangles
    size = np.full((3, 2), SIZE)
    instances = Instances(boxes, None, None, valid, logits)
    found = occlusion_relations(Rule(limit), [], instances, size, (SIZE, SIZE), largest_iou)
    asked = 0
    for image in range(3):
        expected, left = np.zeros((COUNT, COUNT)), limit
        for worse in range(COUNT):
            for better in range(worse):
                both = valid[image, worse] and valid[image, better]
                of_smaller, of_both = shared(boxes[image, worse], boxes[image, better])
                if not both or of_smaller < 0.2 or of_both > largest_iou or not left:
                    continue
                left, asked = left - 1, asked + 1
                logit = (boxes[image, worse, 3] - boxes[image, better, 3]) / 8 - 0.01
                under, over = (better, worse) if logit > 0 else (worse, better)
                expected[under, over] = 1 / (1 + np.exp(-abs(logit)))
        np.testing.assert_allclose(found[image], expected, atol=1e-6)
    assert asked == pairs


def place(masks, relations, threshold):
    """The instance of each pixel, -1 for none: pixel by pixel, best instance first."""
    owner = np.full(masks.shape[1:], -1)
    for slot in range(len(masks)):
        own = list(zip(*np.nonzero(masks[slot]), strict=True))
        free = [pixel for pixel in own if owner[pixel] < 0 or relations[owner[pixel], slot] > 0]
        if len(free) >= threshold * len(own):
            for pixel in free:
                owner[pixel] = slot
    return owner


@pytest.mark.parametrize('threshold', [0.5, 0.8])
def test_pixels_are_placed_as_by_a_loop(rectangles, threshold):
    boxes, logits, valid = rectangles
    settings = inference_settings(method='occlusion_head', occlusion_free_fraction=threshold, free_fraction=0.0)
    found, size = Instances(boxes, None, None, valid, logits), np.full((3, 2), SIZE)
    relations = np.asarray(occlusion_relations(Rule(60), [], found, size, (SIZE, SIZE), 1.0))
    segmenter, frame = Segmenter(settings, SHAPES), Frame((SIZE, SIZE), (SIZE, SIZE), 1.0)
    by_score, dropped = Segmenter(dataclasses.replace(settings, method='heuristics'), SHAPES), 0
    for image in range(3):
        instances = Instances(
            boxes[image],
            np.arange(COUNT) % SHAPES.num_things,
            np.linspace(0.9, 0.5, COUNT),
            valid[image],
            logits[image],
        )
        semantic = np.full((SIZE, SIZE), SHAPES.num_stuff)
        prediction = Prediction(None, semantic, instances, relations[image])
        scene = segmenter(prediction, frame)
        used = np.flatnonzero(valid[image])
        owner = place(paste_instances(instances, used, frame), relations[image], threshold)
        np.testing.assert_array_equal(np.where(scene.panoptic > 0, scene.panoptic - 1 - SHAPES.num_stuff, -1), owner)
        slots = [segment.instance for segment in scene.found]
        np.testing.assert_array_equal(scene.relations, relations[image][np.ix_(slots, slots)])
        dropped += len(used) - len(slots)
        assert image == 2 or np.any(by_score(prediction, frame).panoptic != scene.panoptic)
    assert dropped > 0


def test_a_network_without_the_head_is_refused_by_the_method_alone():
    config = tiny_config()

    def run(method):
        network = build_network(config.model, SHAPES)
        image, size = jnp.zeros((1, 64, 64, 3), jnp.uint8), jnp.full((1, 2), 64)
        infer = nn.apply(lambda *arguments: predict(*arguments, with_fusion=True), network)
        settings = inference_settings(method=method)
        return jax.eval_shape(lambda variables: infer(variables, image, size, settings), variable_shapes(network))

    with pytest.raises(ValueError, match=r"'occlusion_head' needs a network that has one \(model.occlusion.width\)"):
        run('occlusion_head')
    config.model.occlusion.update(width=4, features=4)
    prediction = run('relations')
    assert prediction.occlusion.shape == prediction.relations.shape == (1, 24, 24)

"""Every way to fuse the same detections: with perfect ones, the true order is the best."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.configs import shapes
from sognet_jax.contract import MASK_LOGITS_SIDE
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import make_example
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.evaluation.overlap_pixels import OverlapPixelCounts
from sognet_jax.evaluation.summary import FUSIONS
from sognet_jax.inference.prediction import Instances, fuse, paint
from sognet_jax.ops.masks import crop_resize_masks
from sognet_jax.predictor.comparison import FusionComparison
from tests.support.examples import inference_settings

pytestmark = pytest.mark.compiles

SCENES = 12


class RandomOrder:
    """Stands in for the network: its relation head guesses."""

    num_stuff, num_things = SHAPES.num_stuff, SHAPES.num_things

    def relate(self, classes, boxes, masks, takes_part):
        potential = jax.random.uniform(jax.random.key(0), (*classes.shape, classes.shape[1]))
        relations = jnp.where(potential > jnp.swapaxes(potential, 1, 2), 1.0, 0.0)
        return jnp.where(takes_part[:, :, None] & takes_part[:, None, :], relations, 0.0)


@pytest.fixture(scope='module')
def prior(tmp_path_factory):
    path = tmp_path_factory.mktemp('prior') / 'rules.json'
    path.write_text('{"rules": [{"on": "star", "under": "tray"}, {"on": "leaf", "under": "rug"}]}')
    return str(path)


@pytest.fixture(scope='module')
def scenes():
    """The records and the batch of their examples."""
    records = {index: draw(ShapesSettings(), 1, index) for index in range(SCENES)}
    examples = [make_example(record, example_settings(shapes.get_config())) for record in records.values()]
    return records, {name: np.stack([example[name] for example in examples]) for name in examples[0]}


@functools.partial(jax.jit, static_argnames='settings')
def fuse_annotations(batch, settings):
    """The annotated instances through inference, without a mistake, but in an order that says nothing."""
    crop = jax.vmap(lambda masks, boxes: crop_resize_masks(masks, boxes, boxes, MASK_LOGITS_SIDE))
    logits = (2 * crop(batch['masks'].astype(jnp.float32), batch['boxes']) - 1) * 8.0
    scores = jnp.broadcast_to(jnp.linspace(0.99, 0.9, logits.shape[1]), logits.shape[:2])
    instances = Instances(batch['boxes'], batch['classes'], scores, batch['valid'], logits)
    # The slots that are not in use come first, as those of removed instances may.
    instances = jax.tree.map(lambda x: x[:, ::-1], instances)._replace(scores=scores)
    semantic = jax.nn.one_hot(batch['semantic'][:, 2::4, 2::4], SHAPES.num_classes) * 8.0
    size = batch['image'].shape[1:3]
    return fuse(RandomOrder(), instances, semantic, batch['image_size'], size, settings, keep_inputs=True)


def compare(prediction, scenes, settings):
    records, batch = scenes
    on_devices = jax.tree.map(lambda x: x[None], prediction)
    on_host = jax.device_get(prediction._replace(fusion=None))
    return FusionComparison(settings, SHAPES, 10)(on_devices, on_host, batch, records)


def test_of_perfect_detections_the_true_order_gets_most_right(scenes, prior):
    settings = inference_settings(label_prior=prior)
    counts = OverlapPixelCounts()
    for of_image in compare(fuse_annotations(scenes[1], settings), scenes, settings).values():
        counts += of_image
    metrics = counts.metrics()
    right = {name: metrics[f'overlap_pixels/{name}'] for name in FUSIONS if name != 'occlusion_head'}
    assert metrics['overlap_pixels'] > 1000
    assert right['true_order'] > 95 and all(right['true_order'] >= value for value in right.values()), right
    assert right['head_2'] < 80, 'a guess'


def test_an_occlusion_head_that_knows_the_order_beats_the_heuristics(scenes):
    """In slots from the last annotated instance to the first; what it says matters, not what O says."""
    settings = inference_settings()
    prediction = fuse_annotations(scenes[1], settings)
    true_order = jnp.asarray(scenes[1]['true_order'][:, ::-1, ::-1], jnp.float32)
    right = {}
    for answers, occlusion in (('right', true_order), ('wrong', true_order.mT)):
        counts = OverlapPixelCounts()
        for of_image in compare(prediction._replace(occlusion=occlusion), scenes, settings).values():
            counts += of_image
        metrics = counts.metrics()
        right[answers] = metrics['overlap_pixels/occlusion_head']
    assert right['right'] > 95 > 60 > metrics['overlap_pixels/heuristics'] > right['wrong'], right


def test_painted_again_with_the_same_relations_is_the_same_map(scenes):
    settings = inference_settings()
    prediction = fuse_annotations(scenes[1], settings)
    size = prediction.panoptic.shape[1:]
    again = paint(prediction.instances, prediction.relations, prediction.fusion, size, settings, SHAPES.num_stuff)
    np.testing.assert_array_equal(again, prediction.panoptic)
    without = fuse_annotations(scenes[1], inference_settings(method='panoptic_head'))
    zero = jnp.zeros_like(prediction.relations)
    again = paint(prediction.instances, zero, prediction.fusion, size, settings, SHAPES.num_stuff)
    np.testing.assert_array_equal(again, without.panoptic)
    assert np.any(without.panoptic != prediction.panoptic)


def test_without_relations_or_annotations_nothing_is_compared(scenes):
    with pytest.raises(ValueError, match="need inference.method = 'relations', not 'heuristics'"):
        FusionComparison(inference_settings(method='heuristics'), SHAPES, 10)
    bare = {row: record for row, record in scenes[0].items() if row < 2}
    bare[0] = type(bare[0])(**{**vars(bare[0]), 'has_panoptic': False})
    settings = inference_settings()
    counts = compare(fuse_annotations(scenes[1], settings), (bare, scenes[1]), settings)
    assert counts.keys() == {1} and 'overlap_pixels/label_prior' not in counts[1].metrics()
    assert 'overlap_pixels/occlusion_head' not in counts[1].metrics(), 'no such head'

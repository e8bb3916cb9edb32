"""Ground truth in place of detections: inference alone loses next to nothing on `shapes`."""

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
from sognet_jax.evaluation.panoptic_quality import PanopticCounts
from sognet_jax.inference.prediction import Inference, Instances, fuse
from sognet_jax.inference.segments import panoptic_segments
from sognet_jax.ops.masks import crop_resize_masks
from tests.support.panoptic_quality import count_image

pytestmark = pytest.mark.compiles

CONFIDENCE = 8.0
"""Logit of what is certain."""


class TrueOrder:
    """Stands in for the network: its relation head answers with the true order."""

    num_stuff, num_things = SHAPES.num_stuff, SHAPES.num_things

    def __init__(self, order):
        self.order = order

    def relate(self, classes, boxes, masks, takes_part):
        return jnp.where(takes_part[:, :, None] & takes_part[:, None, :], self.order, 0.0)


@jax.jit
def infer(example):
    masks = crop_resize_masks(
        example['masks'].astype(jnp.float32), example['boxes'], example['boxes'], MASK_LOGITS_SIDE
    )
    instances = Instances(
        example['boxes'], example['classes'], jnp.ones(len(masks)), example['valid'], (2 * masks - 1) * CONFIDENCE
    )
    semantic = jax.nn.one_hot(example['semantic'][2::4, 2::4], SHAPES.num_classes) * CONFIDENCE
    instances, semantic = jax.tree.map(lambda value: value[None], (instances, semantic))
    network = TrueOrder(example['true_order'].astype(jnp.float32)[None])
    settings = Inference(**shapes.get_config().inference)
    return fuse(network, instances, semantic, example['image_size'][None], example['image'].shape[:2], settings)


def test_ground_truth_through_inference_gives_a_panoptic_quality_of_95():
    config = shapes.get_config()
    counts = PanopticCounts.zeros(SHAPES.num_classes)
    for index in range(100):
        record = draw(ShapesSettings(), 1, index)
        example = make_example(record, example_settings(config))
        prediction = infer(example)
        ids, segments = panoptic_segments(
            np.asarray(prediction.panoptic[0]),
            example['classes'],
            num_stuff=SHAPES.num_stuff,
            image_size=tuple(example['image_size']),
            original_size=tuple(example['original_size']),
            stuff_area_limit=config.inference.stuff_area_limit,
        )
        truth = record.segments
        counts += count_image(
            record.panoptic_ids(),
            list(zip(truth.id, truth.category, truth.crowd, strict=True)),
            ids,
            [(segment.id, segment.category) for segment in segments],
            SHAPES.num_classes,
        )
    summary = counts.summary()
    assert summary['PQ'] >= 0.95, summary
    print(summary)

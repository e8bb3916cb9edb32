"""The stored inputs of the published target assignment, in this project's conventions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sognet_jax.targets.proposals import SampledProposals, sample_proposals

INCLUSIVE_TO_HALF_OPEN = np.array([0, 0, 1, 1], np.float32)


def sampled_proposals(golden: dict[str, np.ndarray]) -> SampledProposals:
    """The stored sampling happens at the scale of the original image, to which proposals were brought."""
    boxes = golden['all_boxes'] + INCLUSIVE_TO_HALF_OPEN
    num_boxes, is_crowd = len(golden['gt_boxes']), golden['is_crowd'] > 0
    sample = jax.jit(functools.partial(sample_proposals, batch_size=int(golden['batch_rois'])))
    return sample(
        boxes[num_boxes:], np.ones(len(boxes) - num_boxes, bool), golden['gt_boxes'] + INCLUSIVE_TO_HALF_OPEN,
        golden['gt_classes'] - 1, ~is_crowd, is_crowd, priority=jnp.arange(len(boxes)),
    )  # fmt: skip

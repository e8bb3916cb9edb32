"""The detections that become instances of the panoptic result, for one image."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import clip, decode
from sognet_jax.ops.nms import nms
from sognet_jax.ops.proposals import BOX_WEIGHTS

MAX_CANDIDATES = 4096
"""Non-maximum suppression compares all pairs of candidates: 4096 of them are a 64 MB matrix."""


def panoptic_detections(
    proposals: jax.Array,
    probabilities: jax.Array,
    deltas: jax.Array,
    proposal_valid: jax.Array,
    image_size: jax.Array,
    *,
    score_threshold: float = 0.6,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Pairs of a proposal and a thing class above the score threshold, after ONE suppression over all classes.

    Args:
        proposals: `[P, 4]` half-open boxes in image pixels.
        probabilities: `[P, T + 1]` class probabilities that sum to 1; column 0 is background.
        deltas: `[P, T, 4]` class-specific offsets.
        proposal_valid: `[P]` bool.
        image_size: `[2]` height and width of the valid part of the image, to which boxes are clipped.
        score_threshold: in [0, 1]; detections have a higher score.
        nms_threshold: detections that overlap a better one by more than this IoU are suppressed.
        max_detections: K. Before suppression the best `MAX_CANDIDATES` pairs are taken, which matters only for
            thresholds below about P / 4096.

    Returns:
        boxes `[K, 4]`, classes `[K]` int32 0..T-1, scores `[K]`, valid `[K]` bool, in score order; unused slots are 0.
    """
    num_things = deltas.shape[1]
    scores = jnp.where(proposal_valid[:, None], probabilities[:, 1:], 0.0).reshape(-1)
    best, order = jax.lax.top_k(scores, _num_candidates(proposals.shape[0], num_things, score_threshold))
    rows, classes = order // num_things, order % num_things
    boxes = clip(decode(deltas[rows, classes], proposals[rows], BOX_WEIGHTS), image_size)
    kept, valid = nms(boxes, best, best > score_threshold, nms_threshold, max_detections)
    boxes = jnp.where(valid[:, None], boxes[kept], 0.0)
    classes = jnp.where(valid, classes[kept], 0).astype(jnp.int32)
    return boxes, classes, jnp.where(valid, best[kept], 0.0), valid


def _num_candidates(num_proposals: int, num_things: int, score_threshold: float) -> int:
    """How many pairs can be above the threshold: as probabilities sum to 1, fewer than 1 / threshold per proposal."""
    per_proposal = num_things
    if score_threshold > 0:
        per_proposal = min(num_things, max(math.ceil(1 / score_threshold) - 1, 1))
    return min(num_proposals * per_proposal, MAX_CANDIDATES)

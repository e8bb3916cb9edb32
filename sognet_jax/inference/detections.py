"""The detections of one image: those that become instances of the panoptic result, and those that AP counts."""

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


def box_detections(
    proposals: jax.Array,
    probabilities: jax.Array,
    deltas: jax.Array,
    proposal_valid: jax.Array,
    image_size: jax.Array,
    *,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Pairs of a proposal and a thing class above the score threshold, after a suppression within each class.

    These are the detections that box and mask AP are computed from. The suppression runs over the P proposals of all
    T classes side by side, so that no pair is left out at any threshold: there is no limit on candidates as in
    `panoptic_detections`, of which P * 19 could pass 0.05. It holds T * P * P bytes (80 MB for 1000 proposals and 80
    classes).

    Args:
        proposals, probabilities, deltas, proposal_valid, image_size: as in `panoptic_detections`.
        score_threshold: at least 0; detections have a higher score.
        nms_threshold: detections that overlap a better one of their class by more than this IoU are suppressed.
        max_detections: K, the best of all classes together. Of equal scores the lower class comes first, then the
            earlier proposal (the published code keeps more than K where scores are equal to the last one's).

    Returns:
        boxes `[K, 4]`, classes `[K]` int32 0..T-1, scores `[K]`, valid `[K]` bool, in score order; unused slots are 0.
    """
    num_proposals, num_things = deltas.shape[:2]
    scores = jnp.where(proposal_valid[:, None], probabilities[:, 1:], 0.0).T
    boxes = clip(decode(deltas, proposals[:, None], BOX_WEIGHTS), image_size).swapaxes(0, 1)
    slots = min(num_proposals, max_detections)

    def suppress(boxes: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
        kept, is_kept = nms(boxes, scores, scores > score_threshold, nms_threshold, slots)
        return boxes[kept], jnp.where(is_kept, scores[kept], 0.0)

    boxes, scores = jax.vmap(suppress)(boxes, scores)
    missing = max(max_detections - num_things * slots, 0)
    scores = jnp.pad(scores.reshape(-1), (0, missing))
    boxes = jnp.pad(boxes.reshape(-1, 4), ((0, missing), (0, 0)))
    best, order = jax.lax.top_k(scores, max_detections)
    valid = best > 0
    classes = jnp.where(valid, order // slots, 0).astype(jnp.int32)
    return jnp.where(valid[:, None], boxes[order], 0.0), classes, best, valid


def _num_candidates(num_proposals: int, num_things: int, score_threshold: float) -> int:
    """How many pairs can be above the threshold: as probabilities sum to 1, fewer than 1 / threshold per proposal."""
    per_proposal = num_things
    if score_threshold > 0:
        per_proposal = min(num_things, max(math.ceil(1 / score_threshold) - 1, 1))
    return min(num_proposals * per_proposal, MAX_CANDIDATES)

"""All losses of one batch: the training pass of Figure 2, with ground truth instances in the relation part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax import losses
from sognet_jax.models.fpn import STRIDES
from sognet_jax.models.panoptic_head import combine, panoptic_logits, semantic_instance_logits
from sognet_jax.models.sognet import MASK_SIZE, Pyramid, SOGNet
from sognet_jax.ops.anchors import anchor_grid
from sognet_jax.ops.masks import crop_resize_masks, paste_masks
from sognet_jax.ops.overlap import resolve_overlaps
from sognet_jax.ops.proposals import propose_boxes
from sognet_jax.ops.resize import resize_bilinear
from sognet_jax.targets.anchors import label_anchors
from sognet_jax.targets.masks import mask_targets
from sognet_jax.targets.proposals import sample_proposals

Batch = Mapping[str, jax.Array]
Losses = dict[str, jax.Array]

PANOPTIC_STRIDE = 4
"""The panoptic loss is computed at 1/4 of the image, where the semantic head has its output."""

RELATION_LOSSES = ('overlap', 'order')
LOSS_NAMES = ('rpn_score', 'rpn_box', 'box_class', 'box_delta', 'mask', 'semantic', 'panoptic', 'relation')


@dataclasses.dataclass(frozen=True)
class Objective:
    """Sampling sizes, choices and weights of the training pass: the config's `objective` section.

    Attributes:
        weights: factor of each loss, one for every name in `LOSS_NAMES`.
        rpn_batch_size: anchors sampled per image.
        proposals_per_level, proposals: boxes kept before and after non-maximum suppression.
        box_batch_size, foreground_fraction: proposals sampled per image, and how many of them may be foreground.
        panoptic_head: 1 (Eq. 9) or 2 (Eq. 10).
        outside: pasted mask logits outside their box count as probability 0.5 (`zero`, published) or 0 (`absent`).
        relation_loss: `overlap` is Eq. (12), `order` Eq. (14).
    """

    weights: Mapping[str, float]
    rpn_batch_size: int = 256
    proposals_per_level: int = 2000
    proposals: int = 2000
    box_batch_size: int = 512
    foreground_fraction: float = 0.25
    panoptic_head: int = 2
    outside: str = 'zero'
    relation_loss: str = 'overlap'

    def __post_init__(self) -> None:
        if set(self.weights) != set(LOSS_NAMES):
            raise ValueError(f'config field objective.weights must have exactly {LOSS_NAMES}, not {set(self.weights)}')
        if self.relation_loss not in RELATION_LOSSES:
            raise ValueError(
                f'config field objective.relation_loss must be one of {RELATION_LOSSES}, not {self.relation_loss!r}'
            )
        if self.outside not in ('zero', 'absent'):
            raise ValueError(f"config field objective.outside must be 'zero' or 'absent', not {self.outside!r}")
        if self.panoptic_head not in (1, 2):
            raise ValueError(f'config field objective.panoptic_head must be 1 or 2, not {self.panoptic_head!r}')


def build_objective(settings: Mapping[str, Any]) -> Objective:
    """The objective of a config's `objective` section.

    Raises:
        ValueError: a field has a value that is not one of its choices, or a loss lacks its weight.
    """
    return Objective(**{**settings, 'weights': dict(settings['weights'])})


class GroundTruth(NamedTuple):
    """The instances that losses are computed on: real, not crowd. `[B, N, ...]` each."""

    boxes: jax.Array
    classes: jax.Array
    valid: jax.Array
    crowd: jax.Array
    masks: jax.Array


def training_losses(network: SOGNet, batch: Batch, keys: jax.Array, objective: Objective) -> Losses:
    """Every loss of the paper (DESIGN section 5.7), each a mean over the images of the batch, unweighted.

    Args:
        network: a bound network (see `flax.linen.apply`).
        batch: examples of the data contract, `[B, ...]`.
        keys: `[B]` random keys, one per example, that decide which anchors and proposals are sampled.
        objective: sampling sizes and choices.

    Returns:
        `{name: scalar}` for every name in `LOSS_NAMES`, float32.
    """
    truth = GroundTruth(
        batch['boxes'], batch['classes'], batch['valid'] & ~batch['crowd'], batch['valid'] & batch['crowd'],
        batch['masks'].astype(jnp.float32),
    )  # fmt: skip
    anchor_keys, proposal_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    features = network.extract_features(batch['image'])
    rpn, proposals = _rpn_losses(network, features, batch, truth, anchor_keys, objective)
    instances, mask_logits = _instance_losses(network, features, truth, proposals, proposal_keys, objective)
    semantic_logits = network.segment_semantics(features)
    semantic = _semantic_loss(semantic_logits, batch['semantic'])
    overlap = _overlap_losses(network, batch, truth, mask_logits, semantic_logits, objective)

    has_instances = batch['has_instances'].astype(jnp.float32)
    has_panoptic = batch['has_panoptic'].astype(jnp.float32)
    by_annotation = [(rpn | instances, has_instances), (semantic, has_panoptic)]
    by_annotation.append((overlap, has_instances * has_panoptic))
    return {name: jnp.mean(value * on) for group, on in by_annotation for name, value in group.items()}


def _rpn_losses(
    network: SOGNet, features: Pyramid, batch: Batch, truth: GroundTruth, keys: jax.Array, objective: Objective
) -> tuple[Losses, tuple[jax.Array, jax.Array]]:
    """RPN losses `[B]`, and the proposals `(boxes [B, P, 4], valid [B, P])` that the box head samples from."""
    scores, deltas = network.score_anchors(features)
    grids = [anchor_grid(*level.shape[1:3], stride) for level, stride in zip(features, STRIDES, strict=True)]
    grids = [grid.reshape(-1, 4) for grid in grids]
    anchors = jnp.concatenate(grids)
    priority = jax.vmap(lambda key: jax.random.uniform(key, anchors.shape[:1]))(keys)

    def label(boxes, valid, size, priority):
        return label_anchors(anchors, boxes, valid, size, batch_size=objective.rpn_batch_size, priority=priority)

    labels, targets = jax.vmap(label)(truth.boxes, truth.valid, batch['image_size'], priority)
    rpn = {
        'rpn_score': jax.vmap(lambda s, t: losses.rpn_score_loss(s, t, objective.rpn_batch_size))(
            jnp.concatenate(scores, axis=1), labels
        ),
        'rpn_box': jax.vmap(losses.rpn_box_loss)(jnp.concatenate(deltas, axis=1), targets, labels),
    }

    def propose(scores, deltas, size):
        return propose_boxes(
            scores, deltas, grids, size, pre_nms=objective.proposals_per_level, post_nms=objective.proposals
        )

    boxes, _, valid = jax.vmap(propose)(*jax.lax.stop_gradient((scores, deltas)), batch['image_size'])
    return rpn, (boxes, valid)


def _instance_losses(
    network: SOGNet,
    features: Pyramid,
    truth: GroundTruth,
    proposals: tuple[jax.Array, jax.Array],
    keys: jax.Array,
    objective: Objective,
) -> tuple[Losses, jax.Array]:
    """Box and mask head losses `[B]`, and the mask logits `[B, N, 28, 28]` of the ground truth boxes."""

    def draw(boxes, valid, truth, key):
        priority = jax.random.uniform(key, (boxes.shape[0] + truth.boxes.shape[0],))
        return sample_proposals(
            boxes, valid, truth.boxes, truth.classes, truth.valid, truth.crowd,
            batch_size=objective.box_batch_size, fg_fraction=objective.foreground_fraction, priority=priority,
        )  # fmt: skip

    sampled = jax.lax.stop_gradient(jax.vmap(draw)(*proposals, truth, keys))
    class_logits, deltas = network.classify_boxes(features, sampled.boxes)

    num_foreground = int(objective.box_batch_size * objective.foreground_fraction)
    foreground = jax.tree.map(lambda x: x[:, :num_foreground], sampled)
    own_class = jnp.maximum(foreground.labels - 1, 0)
    targets = jax.vmap(mask_targets)(truth.masks, truth.boxes, foreground.boxes, foreground.matched)
    boxes = jnp.concatenate([foreground.boxes, truth.boxes], axis=1)
    classes = jnp.concatenate([own_class, truth.classes], axis=1)
    logits = network.segment_boxes(features, boxes, classes)
    is_foreground = foreground.valid & (foreground.labels > 0)
    return {
        'box_class': jax.vmap(losses.box_class_loss)(class_logits, sampled.labels, sampled.valid),
        'box_delta': jax.vmap(losses.box_delta_loss)(deltas, sampled.targets, sampled.labels, sampled.valid),
        'mask': jax.vmap(losses.mask_loss)(logits[:, :num_foreground], targets, is_foreground),
    }, logits[:, num_foreground:]


def _semantic_loss(logits: jax.Array, labels: jax.Array) -> Losses:
    """Cross entropy at full resolution `[B]`, as published: logits up-sampled by 4, ignored pixels left out."""
    full = resize_bilinear(logits, labels.shape[1:3])
    return {'semantic': jax.vmap(losses.semantic_loss)(full, labels)}


def _overlap_losses(
    network: SOGNet,
    batch: Batch,
    truth: GroundTruth,
    mask_logits: jax.Array,
    semantic_logits: jax.Array,
    objective: Objective,
) -> Losses:
    """Panoptic and relation losses `[B]`: relations of the ground truth, overlaps resolved on predicted logits."""
    size = semantic_logits.shape[1:3]
    takes_part = jnp.any(batch['overlap'], axis=-1) & truth.valid
    appearance = jax.vmap(lambda masks, boxes: crop_resize_masks(masks, boxes, boxes, MASK_SIZE))(
        truth.masks, truth.boxes
    )
    relations = network.relate(truth.classes, truth.boxes, appearance, takes_part)
    pasted, inside = paste_masks(mask_logits, truth.boxes, size, PANOPTIC_STRIDE)
    resolved = resolve_overlaps(pasted, relations, inside if objective.outside == 'absent' else None)
    num_stuff = network.num_stuff
    semantic = semantic_instance_logits(
        semantic_logits, truth.boxes, truth.classes, num_stuff=num_stuff, stride=PANOPTIC_STRIDE
    )
    instances = combine(semantic, resolved, head=objective.panoptic_head)
    logits = panoptic_logits(semantic_logits[..., :num_stuff], instances, truth.valid)
    if objective.relation_loss == 'overlap':
        relation = jax.vmap(losses.overlap_relation_loss)(relations, batch['overlap'], takes_part)
    else:
        relation = jax.vmap(losses.order_relation_loss)(relations, batch['order'], batch['decided'], takes_part)
    return {'panoptic': jax.vmap(losses.panoptic_loss)(logits, batch['panoptic']), 'relation': relation}


def weighted_sum(values: Losses, weights: Mapping[str, float]) -> jax.Array:
    """The total loss."""
    return sum(weights[name] * value for name, value in values.items())

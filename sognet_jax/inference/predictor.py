"""From images to panoptic segments and overlap relations: the paper's inference, jitted with static shapes."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from kernels.mask_statistics import mask_statistics
from kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.inference.detections import panoptic_detections
from sognet_jax.models.fpn import STRIDES
from sognet_jax.models.sognet import MASK_SIZE, Pyramid, SOGNet
from sognet_jax.ops.anchors import anchor_grid
from sognet_jax.ops.masks import crop_resize_masks
from sognet_jax.ops.proposals import propose_boxes
from sognet_jax.ops.resize import resize_bilinear

OVERLAP_THRESHOLD = 0.1
"""Kept instances whose intersection over the smaller one is larger than this take part in overlap resolving."""


@dataclasses.dataclass(frozen=True)
class Inference:
    """Thresholds and choices of inference: the config's `inference` section.

    Attributes:
        proposals_per_level, proposals: boxes kept before and after non-maximum suppression.
        score_threshold, nms_threshold, max_detections: which detections become instances.
        same_class_threshold: a mask that is covered by kept masks of its class to more than this is removed.
        panoptic_head: 1 (Eq. 9) or 2 (Eq. 10) with `balance` k.
        resolve: `joint` is Eq. (8), `sequential` the published pairwise form.
        outside: pasted mask logits outside their box count as probability 0.5 (`zero`, published) or 0 (`absent`).
        stuff_area_limit: stuff classes with fewer pixels, counted at the original size, become void.
        vote: instances that the semantic output takes for stuff become stuff (published).
    """

    proposals_per_level: int = 1000
    proposals: int = 1000
    score_threshold: float = 0.6
    nms_threshold: float = 0.5
    max_detections: int = 100
    same_class_threshold: float = 0.3
    panoptic_head: int = 2
    balance: float = 2.0
    resolve: str = 'joint'
    outside: str = 'zero'
    stuff_area_limit: int = 4096
    vote: bool = False

    def __post_init__(self) -> None:
        choices = {'resolve': ('joint', 'sequential'), 'outside': ('zero', 'absent'), 'panoptic_head': (1, 2)}
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f'config field inference.{field} must be one of {allowed}, not {getattr(self, field)!r}'
                )


class Instances(NamedTuple):
    """What is known of the instances of an image before fusion, `[B, K, ...]` each, in score order."""

    boxes: jax.Array
    classes: jax.Array
    scores: jax.Array
    valid: jax.Array
    mask_logits: jax.Array


class Prediction(NamedTuple):
    """The result for a batch.

    Attributes:
        panoptic: `[B, H, W]` int32: 0..S-1 stuff, S + k instance k, at network input size.
        semantic: `[B, H, W]` int32: train id with the highest semantic logit.
        instances: the K instances; `valid` ones survived same-class removal.
        relations: `[B, K, K]` O, > 0 at (i, j) where i is covered by j.
    """

    panoptic: jax.Array
    semantic: jax.Array
    instances: Instances
    relations: jax.Array


def predict(network: SOGNet, image: jax.Array, image_size: jax.Array, settings: Inference) -> Prediction:
    """Panoptic segmentation of a batch (paper, Inference).

    Args:
        network: a bound network.
        image: `[B, H, W, 3]` uint8 RGB.
        image_size: `[B, 2]` height and width of the valid part.
        settings: thresholds and choices.
    """
    features = network.extract_features(image, image_size)
    instances = detect(network, features, image_size, settings)
    semantic = network.segment_semantics(features, image_size)
    return fuse(network, instances, semantic, image_size, image.shape[1:3], settings)


def detect(network: SOGNet, features: Pyramid, image_size: jax.Array, settings: Inference) -> Instances:
    """Detections above the score threshold, with the mask logits of their class."""
    scores, deltas = network.score_anchors(features)
    grids = [anchor_grid(*level.shape[1:3], stride) for level, stride in zip(features, STRIDES, strict=True)]
    grids = [grid.reshape(-1, 4) for grid in grids]

    def propose(scores, deltas, size):
        pre, post = settings.proposals_per_level, settings.proposals
        return propose_boxes(scores, deltas, grids, size, pre_nms=pre, post_nms=post)

    proposals, _, real = jax.vmap(propose)(scores, deltas, image_size)
    class_logits, box_deltas = network.classify_boxes(features, proposals, image_size)
    probabilities = nn.softmax(class_logits)

    def select(boxes, probabilities, deltas, real, size):
        return panoptic_detections(
            boxes, probabilities, deltas, real, size, score_threshold=settings.score_threshold,
            nms_threshold=settings.nms_threshold, max_detections=settings.max_detections,
        )  # fmt: skip

    boxes, classes, scores, valid = jax.vmap(select)(proposals, probabilities, box_deltas, real, image_size)
    mask_logits = network.segment_boxes(features, boxes, classes, image_size)
    return Instances(boxes, classes, scores, valid, mask_logits)


def fuse(
    network: SOGNet,
    instances: Instances,
    semantic: jax.Array,
    image_size: jax.Array,
    size: tuple[int, int],
    settings: Inference,
) -> Prediction:
    """Same-class removal, overlap relations, overlap resolving and the panoptic head.

    Args:
        network: a bound network; only its relation head is used.
        instances: detections in score order (or ground truth in their place).
        semantic: `[B, H / 4, W / 4, S + T]` semantic logits.
        image_size: `[B, 2]` valid part of the network input.
        size: H, W of the network input.
        settings: thresholds and choices.
    """

    def survive(instances, image_size):
        return mask_statistics(
            instances.mask_logits, instances.boxes, instances.classes, instances.valid, image_size, size,
            num_classes=network.num_things, threshold=settings.same_class_threshold,
        )  # fmt: skip

    keep, ratio = jax.vmap(survive)(instances, image_size)
    overlap = (ratio > OVERLAP_THRESHOLD) & keep[:, :, None] & keep[:, None, :] & ~jnp.eye(keep.shape[1], dtype=bool)
    instances = instances._replace(valid=keep)
    relations = network.relate(
        instances.classes, instances.boxes, nn.sigmoid(instances.mask_logits), jnp.any(overlap, axis=-1)
    )

    def paint(instances, relations, semantic, partners):
        return panoptic_fusion(
            instances.mask_logits, instances.boxes, instances.classes, instances.valid, relations, semantic, size,
            partners=partners, num_stuff=network.num_stuff, head=settings.panoptic_head, balance=settings.balance,
            resolve=settings.resolve, outside=settings.outside,
        )  # fmt: skip

    panoptic = jax.vmap(paint)(instances, relations, semantic, jnp.sum(overlap, axis=-1))
    labels = jnp.argmax(resize_bilinear(semantic, size), axis=-1).astype(jnp.int32)
    return Prediction(panoptic, labels, instances, relations)


def relate_ground_truth(network: SOGNet, batch: dict[str, jax.Array]) -> jax.Array:
    """O of the ground truth instances, `[B, N, N]`: what order accuracy is measured on.

    Instances whose masks overlap no other's (R of Eq. 11, a function of the masks alone) take no part, as in training.
    """
    masks = batch['masks'].astype(jnp.float32)
    appearance = jax.vmap(lambda masks, boxes: crop_resize_masks(masks, boxes, boxes, MASK_SIZE))(masks, batch['boxes'])
    takes_part = jnp.any(batch['overlap'], axis=-1)
    return network.relate(batch['classes'], batch['boxes'], appearance, takes_part)

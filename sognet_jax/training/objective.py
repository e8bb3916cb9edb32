"""All losses of one batch: the training pass of Figure 2, with ground truth instances in the relation part."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax import losses
from sognet_jax.choices import OUTSIDE, PANOPTIC_HEADS, require_choice
from sognet_jax.contract import PANOPTIC_STRIDE
from sognet_jax.models.rpn import pyramid_anchors
from sognet_jax.models.sognet import Pyramid, SOGNet
from sognet_jax.ops.extent import divide_up, image_extent
from sognet_jax.ops.proposals import propose_boxes
from sognet_jax.targets.anchors import label_anchors
from sognet_jax.targets.pixels import mask_targets, semantic_box_targets, void_targets
from sognet_jax.targets.proposals import SampledProposals, sample_proposals
from sognet_jax.training.occlusion import occlusion_losses
from sognet_jax.training.pixel_losses import ShownInstances, panoptic_losses, semantic_losses
from sognet_jax.training.relation import RELATION_LOSSES, Batch, count_pairs, relation_losses

Losses = dict[str, jax.Array]
Counts = Mapping[str, jax.Array]

LOSS_NAMES = (
    'rpn_score', 'rpn_box', 'box_class', 'box_delta', 'mask', 'semantic', 'semantic_boxes', 'panoptic', 'relation',
    'occlusion',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Objective:
    """Sampling sizes, choices and weights of the training pass: the config's `objective` section."""

    # Factor of each loss, one for every name in `LOSS_NAMES`. `semantic_boxes`, a loss that only the published code
    # has, is not computed where its weight is 0, nor `occlusion` without that head.
    weights: Mapping[str, float]
    rpn_batch_size: int  # anchors sampled per image
    proposals_per_level: int  # boxes kept before non-maximum suppression
    proposals: int  # and after it
    box_batch_size: int  # proposals sampled per image
    foreground_fraction: float  # of which so many may be foreground
    panoptic_head: int  # 1 (Eq. 9) or 2 (Eq. 10)
    outside: str  # pasted mask logits outside their box count as probability 0.5 (`zero`, published) or 0 (`absent`)
    # Share of the instances that the panoptic head is not shown, at random, and that it has to call void; 0 is no void
    # channel. UPSNet has 0.3, SOGNet 0.
    void_fraction: float
    relation_loss: str  # `overlap` is Eq. (12), `order` Eq. (14), `order_cross_entropy` the cross entropy of M and R*.

    def __post_init__(self) -> None:
        if set(self.weights) != set(LOSS_NAMES):
            raise ValueError(f'config field objective.weights must have exactly {LOSS_NAMES}, not {set(self.weights)}')
        choices = {'relation_loss': RELATION_LOSSES, 'outside': OUTSIDE, 'panoptic_head': PANOPTIC_HEADS}
        for field, allowed in choices.items():
            require_choice(f'config field objective.{field}', getattr(self, field), allowed)
        if not 0 <= self.void_fraction < 1:
            raise ValueError(f'config field objective.void_fraction must be in [0, 1), not {self.void_fraction}')


def build_objective(settings: Mapping[str, Any]) -> Objective:
    """The objective of a config's `objective` section.

    Raises:
        ValueError: a field has a value that is not one of its choices, or a loss lacks its weight.
    """
    return Objective(**{**settings, 'weights': dict(settings['weights'])})


def relation_training_loss(
    network: SOGNet, batch: Batch, keys: jax.Array, objective: Objective
) -> tuple[Losses, Counts]:
    """What `training_losses` gives of the relation head alone; that head is all of the network that is needed.

    The batch needs no images and label maps, and nothing is drawn with the keys.
    """
    del keys
    relations = network.relate_annotated(batch)
    values = relation_losses(relations, batch, objective.relation_loss)
    return {'relation': jnp.mean(values * batch['has_instances'])}, count_pairs(relations, batch)


def occlusion_training_loss(
    network: SOGNet, batch: Batch, keys: jax.Array, objective: Objective
) -> tuple[Losses, Counts]:
    """What `training_losses` gives of the occlusion head alone, on sampled boxes of a network that stays as it is."""
    features = jax.lax.stop_gradient(network.extract_features(batch['image'], batch['image_size']))
    assignment = assign_targets(features, network.score_anchors(features), batch, keys, objective)
    nothing = jax.tree.map(lambda x: x[:, :0], ground_truth(batch))
    logits, is_foreground = segment_boxes(network, features, batch['image_size'], nothing, assignment)
    drawn = assignment.sampled, is_foreground, logits, assignment.pair_priority
    values, counts = occlusion_losses(network, features, batch, *drawn)
    return {'occlusion': jnp.mean(values * batch['has_instances'])}, counts


class GroundTruth(NamedTuple):
    """The instances that losses are computed on: real, not crowd. `[B, N, ...]` each."""

    boxes: jax.Array
    classes: jax.Array
    valid: jax.Array
    crowd: jax.Array
    masks: jax.Array


class Assignment(NamedTuple):
    """What matching and sampling decide for a batch; no gradient flows through it."""

    anchor_labels: jax.Array  # `[B, A]` of `label_anchors`
    anchor_targets: jax.Array  # `[B, A, 4]` of the same
    sampled: SampledProposals  # `[B, R, ...]` of `sample_proposals`; foreground lies in the first F slots
    mask_targets: jax.Array  # `[B, F, 28, 28]` of the first F sampled boxes
    pair_priority: jax.Array  # `[B, F, F]`, decides which pairs of the first F boxes the occlusion head is asked
    unknown: jax.Array | None = None  # `[B, N]` bool, not shown to the panoptic head: see `Objective.void_fraction`


AnchorPredictions = tuple[list[jax.Array], list[jax.Array]]
"""Per level: objectness logits `[B, n]` and box deltas `[B, n, 4]`."""


def training_losses(network: SOGNet, batch: Batch, keys: jax.Array, objective: Objective) -> tuple[Losses, Counts]:
    """Every loss of the paper, each a mean over the images of the batch, unweighted.

    Args:
        network: a bound network (see `flax.linen.apply`).
        batch: examples of the data contract, `[B, ...]`.
        keys: `[B]` random keys, one per example, that decide which anchors and proposals are sampled.
        objective: sampling sizes and choices.

    Returns:
        `{name: scalar}`, float32, for every name in `LOSS_NAMES` (`semantic_boxes` only where it has a weight), and
        the counts of `count_pairs`; where the occlusion head is trained in the relation head's place, those of that.
    """
    features = network.extract_features(batch['image'], batch['image_size'])
    anchors = network.score_anchors(features)
    assignment = assign_targets(features, jax.lax.stop_gradient(anchors), batch, keys, objective)
    return losses_of_assignment(network, features, anchors, batch, assignment, objective)


def ground_truth(batch: Batch) -> GroundTruth:
    """The instances of a batch."""
    return GroundTruth(
        batch['boxes'], batch['classes'], batch['valid'] & ~batch['crowd'], batch['valid'] & batch['crowd'],
        batch['masks'].astype(jnp.float32),
    )  # fmt: skip


def assign_targets(
    features: Pyramid, anchor_predictions: AnchorPredictions, batch: Batch, keys: jax.Array, objective: Objective
) -> Assignment:
    """Labels anchors, proposes boxes, samples them, and sees the ground truth masks through them.

    Of the features P2 .. P6 it takes the sizes alone.
    """
    grids = pyramid_anchors(features)
    anchors = jnp.concatenate(grids)
    num_foreground = int(objective.box_batch_size * objective.foreground_fraction)

    def assign(scores, deltas, truth, size, key):
        anchor_key, proposal_key = jax.random.split(key)
        labels, targets = label_anchors(
            anchors, truth.boxes, truth.valid, size, batch_size=objective.rpn_batch_size,
            priority=jax.random.uniform(anchor_key, anchors.shape[:1]),
        )  # fmt: skip
        boxes, _, valid = propose_boxes(
            scores, deltas, grids, size, pre_nms=objective.proposals_per_level, post_nms=objective.proposals
        )
        sampled = sample_proposals(
            boxes, valid, truth.boxes, truth.classes, truth.valid, truth.crowd,
            batch_size=objective.box_batch_size, fg_fraction=objective.foreground_fraction,
            priority=jax.random.uniform(proposal_key, (boxes.shape[0] + truth.boxes.shape[0],)),
        )  # fmt: skip
        foreground, matched = sampled.boxes[:num_foreground], sampled.matched[:num_foreground]
        unknown = None
        if objective.void_fraction:
            unknown = jax.random.uniform(jax.random.fold_in(key, 2), truth.valid.shape) < objective.void_fraction
        masks = mask_targets(truth.masks, truth.boxes, foreground, matched)
        pair_priority = jax.random.uniform(jax.random.fold_in(key, 3), (num_foreground, num_foreground))
        return Assignment(labels, targets, sampled, masks, pair_priority, unknown)

    return jax.lax.stop_gradient(jax.vmap(assign)(*anchor_predictions, ground_truth(batch), batch['image_size'], keys))


def losses_of_assignment(
    network: SOGNet,
    features: Pyramid,
    anchor_predictions: AnchorPredictions,
    batch: Batch,
    assignment: Assignment,
    objective: Objective,
) -> tuple[Losses, Counts]:
    """The result of `training_losses` once it is decided what anchors and boxes are trained towards."""
    truth = ground_truth(batch)
    logits, is_foreground = segment_boxes(network, features, batch['image_size'], truth, assignment)
    sampled_logits, mask_logits = jnp.split(logits, is_foreground.shape[1:], axis=1)
    instances = _instance_losses(network, features, batch['image_size'], assignment, sampled_logits, is_foreground)
    instances |= _rpn_losses(anchor_predictions, assignment, objective)
    semantic_logits = network.segment_semantics(features, batch['image_size'])
    semantic = {'semantic': semantic_losses(semantic_logits, batch['semantic'])}
    relations = network.relate_annotated(batch)
    # R needs instance annotations alone; R* of Eq. (14) has no decided pair without the others.
    instances['relation'] = relation_losses(relations, batch, objective.relation_loss)
    counts = count_pairs(relations, batch)
    if network.has_occlusion_head:
        drawn = assignment.sampled, is_foreground, sampled_logits, assignment.pair_priority
        instances['occlusion'], asked = occlusion_losses(network, features, batch, *drawn)
        counts = counts if objective.weights['relation'] else asked
    shown = ShownInstances(mask_logits, truth.boxes, truth.classes, truth.valid, relations.matrix)
    both = {
        'panoptic': _panoptic_losses(shown, semantic_logits, batch, network.num_stuff, objective, assignment.unknown)
    }
    if objective.weights['semantic_boxes']:
        both |= _semantic_box_losses(network, semantic_logits, batch, truth)

    has_instances = batch['has_instances'].astype(jnp.float32)
    has_panoptic = batch['has_panoptic'].astype(jnp.float32)
    by_annotation = [(instances, has_instances), (semantic, has_panoptic), (both, has_instances * has_panoptic)]
    values = {name: jnp.mean(value * on) for group, on in by_annotation for name, value in group.items()}
    return values, counts


def _rpn_losses(predictions: AnchorPredictions, assignment: Assignment, objective: Objective) -> Losses:
    scores, deltas = (jnp.concatenate(levels, axis=1) for levels in predictions)
    labels, targets = assignment.anchor_labels, assignment.anchor_targets
    score_loss = functools.partial(losses.rpn_score_loss, batch_size=objective.rpn_batch_size)
    return {
        'rpn_score': jax.vmap(score_loss)(scores, labels),
        'rpn_box': jax.vmap(losses.rpn_box_loss)(deltas, targets, labels),
    }


def _instance_losses(
    network: SOGNet, features: Pyramid, image_size: jax.Array, assignment: Assignment, mask_logits: jax.Array,
    is_foreground: jax.Array,
) -> Losses:  # fmt: skip
    """Box and mask head losses `[B]`, from the mask logits `[B, F, 28, 28]` of the first F sampled boxes."""
    sampled = assignment.sampled
    class_logits, deltas = network.classify_boxes(features, sampled.boxes, image_size)
    return {
        'box_class': jax.vmap(losses.box_class_loss)(class_logits, sampled.labels, sampled.valid),
        'box_delta': jax.vmap(losses.box_delta_loss)(deltas, sampled.targets, sampled.labels, sampled.valid),
        'mask': jax.vmap(losses.mask_loss)(mask_logits, assignment.mask_targets, is_foreground),
    }


def segment_boxes(
    network: SOGNet, features: Pyramid, image_size: jax.Array, truth: GroundTruth, assignment: Assignment
) -> tuple[jax.Array, jax.Array]:
    """Mask logits `[B, F + N, 28, 28]` of the first F sampled boxes and of the ground truth boxes, and which of the
    former are foreground, `[B, F]` bool.
    """
    num_foreground = assignment.mask_targets.shape[1]
    foreground = jax.tree.map(lambda x: x[:, :num_foreground], assignment.sampled)
    boxes = jnp.concatenate([foreground.boxes, truth.boxes], axis=1)
    classes = jnp.concatenate([jnp.maximum(foreground.labels - 1, 0), truth.classes], axis=1)
    is_foreground = foreground.valid & (foreground.labels > 0)
    wanted = jnp.concatenate([is_foreground, truth.valid], axis=1)
    return network.segment_boxes(features, boxes, classes, image_size, wanted), is_foreground


def _semantic_box_losses(network: SOGNet, logits: jax.Array, batch: Batch, truth: GroundTruth) -> Losses:
    """Cross entropy of the semantic logits pooled from ground truth boxes `[B]` (published code, not in the paper)."""
    pooled = network.segment_semantics_in_boxes(logits, truth.boxes, batch['image_size'])
    crop = functools.partial(semantic_box_targets, size=pooled.shape[2])
    targets = jax.vmap(crop)(batch['semantic'], truth.boxes)
    return {'semantic_boxes': jax.vmap(losses.semantic_box_loss)(pooled, targets, truth.valid)}


def _panoptic_losses(
    instances: ShownInstances,
    semantic_logits: jax.Array,
    batch: Batch,
    num_stuff: int,
    objective: Objective,
    unknown: jax.Array | None,
) -> jax.Array:
    """Panoptic losses `[B]`: overlaps of the annotated instances resolved on predicted logits."""
    labels = batch['panoptic']
    if unknown is not None:
        # What the panoptic head is not shown covers nothing, as what is not detected does not.
        between = jnp.where(unknown[:, :, None] | unknown[:, None, :], 0.0, instances.relations)
        instances = instances._replace(shown=instances.shown & ~unknown, relations=between)
        labels = jax.vmap(functools.partial(void_targets, num_stuff=num_stuff))(labels, unknown)
    num_pixels = jnp.prod(divide_up(image_extent(batch['image_size']), PANOPTIC_STRIDE), axis=-1)
    return panoptic_losses(
        instances, semantic_logits, labels, num_pixels, num_stuff=num_stuff, head=objective.panoptic_head,
        outside=objective.outside, void_channel=unknown is not None,
    )  # fmt: skip


def weighted_sum(values: Losses, weights: Mapping[str, float]) -> jax.Array:
    """The total of the losses that were computed."""
    return sum((weights[name] * value for name, value in values.items()), start=jnp.zeros((), jnp.float32))

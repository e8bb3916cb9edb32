"""From images to panoptic segments and overlap relations: the paper's inference, jitted with static shapes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sognet_jax.choices import OUTSIDE, PANOPTIC_HEADS, RESOLVE, require_choice
from sognet_jax.inference.detections import box_detections, panoptic_detections
from sognet_jax.kernels.mask_statistics import mask_statistics
from sognet_jax.kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.models.occlusion_head import overlapping_enough
from sognet_jax.models.rpn import pyramid_anchors
from sognet_jax.models.sognet import Pyramid, SOGNet
from sognet_jax.ops.boxes import iou
from sognet_jax.ops.proposals import propose_boxes
from sognet_jax.ops.sampling import sample_pairs
from sognet_jax.ops.strips import cut_rows_with_neighbours, enlarge_strip, strip_height

OVERLAP_THRESHOLD = 0.1
"""Kept instances whose intersection over the smaller one is larger than this take part in overlap resolving."""

METHODS = ('relations', 'panoptic_head', 'heuristics', 'label_prior', 'occlusion_head')
"""How instances and stuff become one map: SOGNet; the panoptic head without relations (O = 0); instance by instance in
the order of the scores (Kirillov et al. 2019b); the same, where pairs of categories may decide (Li et al. 2019b), or
the occlusion head (Lazarow et al. 2020). The last three need no panoptic head, see `inference.heuristics`."""

WITHOUT_PANOPTIC_HEAD = ('heuristics', 'label_prior', 'occlusion_head')

Array = TypeVar('Array', jax.Array, np.ndarray)
"""What a prediction consists of: arrays of JAX while it is computed, of NumPy on the host."""


@dataclasses.dataclass(frozen=True)
class Inference:
    """Thresholds and choices of inference: the config's `inference` section."""

    method: str  # one of `METHODS`
    proposals_per_level: int  # boxes kept before non-maximum suppression
    proposals: int  # and after it
    # Which detections become instances.
    score_threshold: float
    nms_threshold: float
    max_detections: int
    same_class_threshold: float  # a mask that is covered by kept masks of its class to more than this is removed
    free_fraction: float  # least share of a mask that has to be free still, in heuristics and with the label prior
    label_prior: str  # of the method `label_prior`: the file that says which categories lie on which
    panoptic_head: int  # 1 (Eq. 9) or 2 (Eq. 10)
    balance: float  # k of Eq. (10)
    resolve: str  # `joint` is Eq. (8), `sequential` the published pairwise form
    outside: str  # pasted mask logits outside their box count as probability 0.5 (`zero`, published) or 0 (`absent`)
    void_channel: bool  # pixels are void where a thing is seen but no instance of it (UPSNet)
    stuff_area_limit: int  # stuff classes with fewer pixels, counted at the original size, become void
    vote: bool  # instances that the semantic output takes for stuff become stuff (published)
    occlusion_free_fraction: float = 0.5  # `free_fraction` of the occlusion head
    occlusion_largest_iou: float = 1.0  # it is not asked of boxes that overlap more

    def __post_init__(self) -> None:
        choices = {'method': METHODS, 'resolve': RESOLVE, 'outside': OUTSIDE, 'panoptic_head': PANOPTIC_HEADS}
        for field, allowed in choices.items():
            require_choice(f'config field inference.{field}', getattr(self, field), allowed)
        if self.method == 'label_prior' and not self.label_prior:
            raise ValueError("config field inference.label_prior is empty; inference.method = 'label_prior' needs it")


class Proposals(NamedTuple):
    """Boxes of the region proposal network and what the box head says of them."""

    boxes: jax.Array  # `[B, P, 4]`
    probabilities: jax.Array  # `[B, P, T + 1]`, column 0 is background
    deltas: jax.Array  # `[B, P, T, 4]`
    valid: jax.Array  # `[B, P]` bool


class Instances(NamedTuple, Generic[Array]):
    """What is known of the instances of an image before fusion, `[B, K, ...]` each, in score order."""

    boxes: Array
    classes: Array
    scores: Array
    valid: Array
    mask_logits: Array


class FusionInputs(NamedTuple):
    """What `paint` takes beside the instances and O."""

    semantic: jax.Array  # `[B, H / 4, W / 4, S + T]` semantic logits
    partners: jax.Array  # `[B, K]` int, how many others each instance overlaps


class Prediction(NamedTuple, Generic[Array]):
    """The result for a batch."""

    # `[B, H, W]` int32: 0..S-1 stuff, S + k instance k, -1 void, at network input size; None for a method without a
    # panoptic head
    panoptic: Array | None
    semantic: Array  # `[B, H, W]` int32: train id with the highest semantic logit
    # the K instances; `valid` ones survived same-class removal (without a panoptic head: are detections)
    instances: Instances[Array]
    relations: Array  # `[B, K, K]` O, > 0 at (i, j) where i is covered by j; 0 for a method without relations
    # None where nobody asked for them.
    detections: Instances[Array] | None = None  # those that AP counts, see `detect`
    fusion: FusionInputs | None = None  # with what the instances can be fused again, by `paint`
    occlusion: Array | None = None  # O of the same instances by the occlusion head, if the network has one


def predict(
    network: SOGNet,
    image: jax.Array,
    image_size: jax.Array,
    settings: Inference,
    *,
    with_detections: bool = False,
    with_fusion: bool = False,
) -> Prediction[jax.Array]:
    """Panoptic segmentation of a batch (paper, Inference).

    Args:
        network: a bound network.
        image: `[B, H, W, 3]` uint8 RGB.
        image_size: `[B, 2]` height and width of the valid part.
        with_detections: find the detections that AP counts, too.
        with_fusion: keep what instances are fused with, and ask the occlusion head; not without a panoptic head.

    Raises:
        ValueError: the method needs an occlusion head, and the network has none.
    """
    if settings.method == 'occlusion_head' and not network.has_occlusion_head:
        raise ValueError("inference.method = 'occlusion_head' needs a network that has one (model.occlusion.width)")
    features = network.extract_features(image, image_size)
    proposals = propose(network, features, image_size, settings)
    find = functools.partial(detect, network, features, proposals, image_size, settings)
    semantic = network.segment_semantics(features, image_size)
    size = image.shape[1], image.shape[2]
    occlude = functools.partial(
        occlusion_relations, network, features, image_size=image_size, size=size,
        largest_iou=settings.occlusion_largest_iou,
    )  # fmt: skip
    if settings.method in WITHOUT_PANOPTIC_HEAD:
        detections = find(in_classes=True)
        relations = jnp.zeros((*detections.scores.shape, detections.scores.shape[1]))
        if settings.method == 'occlusion_head':
            certain = detections.valid & (detections.scores >= settings.score_threshold)
            relations = occlude(detections._replace(valid=certain))
        return Prediction(None, semantic_labels(semantic, size), detections, relations, detections)
    counted = find(in_classes=True) if with_detections else None
    fused = fuse(network, find(), semantic, image_size, size, settings, keep_inputs=with_fusion)
    occlusion = occlude(fused.instances) if with_fusion and network.has_occlusion_head else None
    return fused._replace(detections=counted, occlusion=occlusion)


def propose(network: SOGNet, features: Pyramid, image_size: jax.Array, settings: Inference) -> Proposals:
    """Region proposals, classified."""
    scores, deltas = network.score_anchors(features)
    grids = pyramid_anchors(features)

    def choose(scores, deltas, size):
        pre, post = settings.proposals_per_level, settings.proposals
        return propose_boxes(scores, deltas, grids, size, pre_nms=pre, post_nms=post)

    boxes, _, valid = jax.vmap(choose)(scores, deltas, image_size)
    class_logits, box_deltas = network.classify_boxes(features, boxes, image_size)
    return Proposals(boxes, nn.softmax(class_logits), box_deltas, valid)


def detect(
    network: SOGNet,
    features: Pyramid,
    proposals: Proposals,
    image_size: jax.Array,
    settings: Inference,
    *,
    in_classes: bool = False,
) -> Instances[jax.Array]:
    """Detections above the score threshold, with the mask logits of their class: what the panoptic head takes.

    Those that are suppressed `in_classes` are above the low score threshold of AP.
    """
    choose: Callable[..., tuple[jax.Array, ...]] = box_detections
    if not in_classes:
        choose = functools.partial(panoptic_detections, score_threshold=settings.score_threshold)
    select = functools.partial(choose, nms_threshold=settings.nms_threshold, max_detections=settings.max_detections)
    boxes, classes, scores, valid = jax.vmap(select)(*proposals, image_size)
    return Instances(boxes, classes, scores, valid, network.segment_boxes(features, boxes, classes, image_size, valid))


def occlusion_relations(
    network: SOGNet, features: Pyramid, instances: Instances[jax.Array], image_size: jax.Array, size: tuple[int, int],
    largest_iou: float,
) -> jax.Array:  # fmt: skip
    """O by the occlusion head, `[B, K, K]`: the probability that j lies on i where it is above 0.5, else 0.

    It is asked of overlapping pairs whether the worse detection lies on the better one: the other way round nobody
    asks in a merge by score. Where there are too many pairs, those of the worst detections are left out; and so are
    boxes with an IoU above `largest_iou`, perhaps one object found twice: of such pairs the head was taught nothing.
    """
    boxes, logits, valid = instances.boxes, instances.mask_logits, instances.valid
    is_asked = overlapping_enough(logits, boxes, valid, image_size, size) & (jax.vmap(iou)(boxes, boxes) <= largest_iou)
    candidates = jnp.tril(is_asked, -1)
    in_order = functools.partial(sample_pairs, k=network.occlusion['pairs'], priority=jnp.zeros(candidates.shape[1:]))
    pairs = jax.vmap(in_order)(candidates)
    answers = jnp.where(pairs.valid, network.occlude(features, boxes, logits, pairs, image_size), 0.0)
    place = jnp.arange(len(boxes))[:, None], pairs.second, pairs.first
    on_it = jnp.zeros(candidates.shape).at[place].set(answers)  # the logit that j lies on i
    on_it -= on_it.mT
    return jnp.where(on_it > 0, nn.sigmoid(on_it), 0.0)


def semantic_labels(semantic: jax.Array, size: tuple[int, int]) -> jax.Array:
    """`[B, h, w, S + T]` semantic logits -> `[B, H, W]` int32, the train id with the highest one.

    H, W are one multiple of h, w; the enlarged logits are there by strips of rows alone.
    """
    batch, height, width, classes = semantic.shape
    factor = size[0] // height
    strip = strip_height(height, factor**2 * batch * width * classes)
    strips = cut_rows_with_neighbours(semantic, strip)
    labels = jax.lax.map(lambda rows: jnp.argmax(enlarge_strip(rows, factor), axis=-1).astype(jnp.int32), strips)
    return jnp.moveaxis(labels, 0, 1).reshape(batch, -1, size[1])[:, : size[0]]


def fuse(
    network: SOGNet,
    instances: Instances[jax.Array],
    semantic: jax.Array,
    image_size: jax.Array,
    size: tuple[int, int],
    settings: Inference,
    *,
    keep_inputs: bool = False,
) -> Prediction[jax.Array]:
    """Same-class removal, overlap relations, overlap resolving and the panoptic head.

    Args:
        network: a bound network; only its relation head is used, and not even that without relations.
        instances: detections in score order (or ground truth in their place).
        semantic: `[B, H / 4, W / 4, S + T]` semantic logits.
        image_size: `[B, 2]` valid part of the network input.
        size: H, W of the network input.
        keep_inputs: give back what `paint` takes.
    """

    def survive(instances, image_size):
        return mask_statistics(
            instances.mask_logits, instances.boxes, instances.classes, instances.valid, image_size, size,
            num_classes=network.num_things, threshold=settings.same_class_threshold,
        )  # fmt: skip

    keep, ratio = jax.vmap(survive)(instances, image_size)
    overlap = (ratio > OVERLAP_THRESHOLD) & keep[:, :, None] & keep[:, None, :] & ~jnp.eye(keep.shape[1], dtype=bool)
    instances = instances._replace(valid=keep)
    if settings.method == 'relations':
        appearance = nn.sigmoid(instances.mask_logits)
        relations = network.relate(instances.classes, instances.boxes, appearance, jnp.any(overlap, axis=-1))
    else:
        relations = jnp.zeros(ratio.shape)

    inputs = FusionInputs(semantic, jnp.sum(overlap, axis=-1))
    panoptic = paint(instances, relations, inputs, size, settings, network.num_stuff)
    labels = semantic_labels(semantic, size)
    return Prediction(panoptic, labels, instances, relations, fusion=inputs if keep_inputs else None)


def paint(
    instances: Instances[jax.Array],
    relations: jax.Array,
    inputs: FusionInputs,
    size: tuple[int, int],
    settings: Inference,
    num_stuff: int,
) -> jax.Array:
    """Overlap resolving and the panoptic head, for instances that survived the same-class removal.

    Args:
        instances: in score order.
        relations: `[B, K, K]` O; 0 for slots that are not valid.
        inputs: semantic logits and number of partners.
        size: H, W of the network input.
        num_stuff: S.

    Returns:
        `[B, H, W]` int32, see `Prediction.panoptic`.
    """
    # Without stuff, what no instance covers is void: a class of logit 0 stands for it, half a chance of a mask.
    background = 1 if num_stuff == 0 else 0

    def paint_image(instances, relations, semantic, partners):
        semantic = jnp.pad(semantic, ((0, 0), (0, 0), (background, 0)))
        panoptic = panoptic_fusion(
            instances.mask_logits, instances.boxes, instances.classes, instances.valid, relations, semantic, size,
            partners=partners, num_stuff=num_stuff + background, head=settings.panoptic_head,
            balance=settings.balance, resolve=settings.resolve, outside=settings.outside,
            void_channel=settings.void_channel,
        )  # fmt: skip
        return jnp.maximum(panoptic - background, -1)

    return jax.vmap(paint_image)(instances, relations, *inputs)

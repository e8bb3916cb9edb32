"""SOGNet: joint segmentation (backbone, pyramid, RPN, box, mask and semantic heads) and the relation head."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.categories import CategorySet
from sognet_jax.contract import MASK_LOGITS_SIDE
from sognet_jax.kernels.choice import current_target
from sognet_jax.kernels.roi_align import pyramid_level, roi_align
from sognet_jax.models.fpn import STRIDES, FeaturePyramid
from sognet_jax.models.instance_heads import BoxHead, MaskHead
from sognet_jax.models.occlusion_head import OcclusionHead
from sognet_jax.models.relation_head import RelationHead, Relations
from sognet_jax.models.resnet import ResNet
from sognet_jax.models.rpn import RegionProposalNetwork
from sognet_jax.models.semantic_head import SemanticHead
from sognet_jax.ops.extent import image_extent, zero_outside
from sognet_jax.ops.masks import crop_resize_masks
from sognet_jax.ops.overlap import overlap_relations
from sognet_jax.ops.sampling import Pairs

RELATION_HEAD, OCCLUSION_HEAD = 'relation_head', 'occlusion_head'
"""Names of these heads among the parts of the network that have parameters."""

GROUP = 32
"""Boxes of an image that the mask head runs for together, or skips."""

Pyramid = Sequence[jax.Array]


class SOGNet(nn.Module):
    """The parts of the network with parameters; training and inference call them in their own order (Figure 2)."""

    num_stuff: int  # S
    num_things: int  # T
    # Keyword arguments of the parts.
    backbone: Mapping[str, Any]
    pyramid: Mapping[str, Any]
    rpn: Mapping[str, Any]
    box: Mapping[str, Any]
    mask: Mapping[str, Any]
    semantic: Mapping[str, Any]
    relation: Mapping[str, Any]
    occlusion: Mapping[str, Any]
    pixel_mean: Sequence[float] = (123.675, 116.28, 103.53)  # RGB
    pixel_std: Sequence[float] = (58.395, 57.12, 57.375)
    dtype: jnp.dtype = jnp.float32  # compute type of features; scores, boxes, relations and losses are float32

    def setup(self) -> None:
        """Makes the parts."""
        self.resnet = ResNet(dtype=self.dtype, **self.backbone)
        self.fpn = FeaturePyramid(dtype=self.dtype, **self.pyramid)
        self.proposal_network = RegionProposalNetwork(dtype=self.dtype, **self.rpn)
        self.box_head = BoxHead(self.num_things, dtype=self.dtype, **self.box)
        self.mask_head = MaskHead(self.num_things, dtype=self.dtype, **self.mask)
        classes = self.num_stuff + self.num_things
        self.semantic_head = SemanticHead(classes, dtype=self.dtype, **self.semantic)
        self.relation_head = RelationHead(self.num_things, **self.relation)
        if self.has_occlusion_head:
            self.occlusion_head = OcclusionHead(dtype=self.dtype, **self.occlusion)

    @property
    def has_occlusion_head(self) -> bool:
        """Whether the network has the head that it does not need: a rival of the relations."""
        return self.occlusion.get('width', 0) > 0

    def extract_features(self, image: jax.Array, image_size: jax.Array) -> Pyramid:
        """P2 .. P6 of a batch.

        Args:
            image: `[B, H, W, 3]` RGB, uint8 or float 0..255.
            image_size: `[B, 2]` height and width of the valid part; the padding is 0 after normalisation (published).
        """
        return self.fpn(self.extract_stages(image, image_size), image_extent(image_size))

    def extract_stages(self, image: jax.Array, image_size: jax.Array) -> list[jax.Array]:
        """res2 .. res5 of a batch; arguments as in `extract_features`."""
        mean, std = jnp.array(self.pixel_mean), jnp.array(self.pixel_std)
        normalized = (image.astype(jnp.float32) - mean) / std
        return self.resnet(zero_outside(normalized, image_size).astype(self.dtype), image_extent(image_size))

    def score_anchors(self, features: Pyramid) -> tuple[list[jax.Array], list[jax.Array]]:
        """Objectness logits `[B, n]` and box deltas `[B, n, 4]` of the anchors of each level."""
        return self.proposal_network(features)

    def classify_boxes(self, features: Pyramid, boxes: jax.Array, image_size: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[B, R, 4]` boxes -> class logits `[B, R, T + 1]`, class-specific deltas `[B, R, T, 4]`."""
        return self.box_head(self._pool(features, boxes, image_size, 7))

    def segment_boxes(
        self,
        features: Pyramid,
        boxes: jax.Array,
        classes: jax.Array,
        image_size: jax.Array,
        wanted: jax.Array | None = None,
    ) -> jax.Array:
        """Boxes -> mask logits.

        On CPUs the head skips groups of `GROUP` boxes of which none is wanted; elsewhere a choice at run time costs
        more than it saves.

        Args:
            features, image_size: as elsewhere.
            boxes, classes: `[B, R, 4]` and `[B, R]`.
            wanted: `[B, R]` bool, the boxes whose masks are used; None for all.

        Returns:
            `[B, R, 28, 28]` float32; 0 where a group was skipped.
        """

        def segment(self: SOGNet, features: Pyramid, boxes: jax.Array, classes: jax.Array) -> jax.Array:
            return self.mask_head(self._pool(features, boxes, image_size, 14), classes)

        def skip(self: SOGNet, features: Pyramid, boxes: jax.Array, classes: jax.Array) -> jax.Array:
            return jnp.zeros((*classes.shape, MASK_LOGITS_SIDE, MASK_LOGITS_SIDE))

        if wanted is None or current_target().platform != 'cpu':
            return segment(self, features, boxes, classes)
        parts = []
        for start in range(0, boxes.shape[1], GROUP):
            group = slice(start, start + GROUP)
            run = jnp.any(wanted[:, group])
            parts.append(nn.cond(run, segment, skip, self, features, boxes[:, group], classes[:, group]))
        return jnp.concatenate(parts, axis=1)

    def segment_semantics(self, features: Pyramid, image_size: jax.Array) -> jax.Array:
        """`[B, H / 4, W / 4, S + T]` semantic logits."""
        return self.semantic_head(features[:4], image_extent(image_size))

    def segment_semantics_in_boxes(self, logits: jax.Array, boxes: jax.Array, image_size: jax.Array) -> jax.Array:
        """Semantic logits and `[B, R, 4]` boxes -> `[B, R, 28, 28, S + T]`: see `SemanticHead.inside_boxes`."""
        return self.semantic_head.inside_boxes(logits, boxes, MASK_LOGITS_SIDE, image_extent(image_size))

    def relate(self, classes: jax.Array, boxes: jax.Array, masks: jax.Array, takes_part: jax.Array) -> jax.Array:
        """The overlap relation matrix O, `[B, N, N]`: see `RelationHead`."""
        return self.relation_head(classes, boxes, masks, takes_part)

    def relate_annotated(self, batch: Mapping[str, jax.Array]) -> Relations:
        """The relations of the annotated instances of a batch, by its `classes`, `boxes`, `masks` and `overlap`.

        Crowd and empty slots overlap nothing.
        """
        shrink = jax.vmap(lambda masks, boxes: crop_resize_masks(masks, boxes, boxes, MASK_LOGITS_SIDE))
        takes_part = jnp.any(batch['overlap'], axis=-1)
        masks = shrink(batch['masks'].astype(jnp.float32), batch['boxes'])
        potential = self.relation_head.potential(batch['classes'], batch['boxes'], masks)
        return Relations(takes_part, potential, overlap_relations(nn.sigmoid(potential), takes_part))

    def occlude(
        self, features: Pyramid, boxes: jax.Array, mask_logits: jax.Array, pairs: Pairs, image_size: jax.Array
    ) -> jax.Array:
        """Logits `[B, P]` that the first instance of each pair lies on the second: see `OcclusionHead`."""
        pooled = self._pool(features, boxes, image_size, self.occlusion['side'])
        return self.occlusion_head(pooled, mask_logits, pairs.first, pairs.second)

    def __call__(self, image: jax.Array, boxes: jax.Array, classes: jax.Array) -> None:
        """Runs every part once, to initialise the parameters."""
        size = jnp.array([image.shape[1:3]] * image.shape[0])
        features = self.extract_features(image, size)
        self.score_anchors(features)
        self.classify_boxes(features, boxes, size)
        masks = self.segment_boxes(features, boxes, classes, size)
        self.segment_semantics(features, size)
        self.relate(classes, boxes, nn.sigmoid(masks), jnp.ones(classes.shape, bool))
        if self.has_occlusion_head:
            itself = jnp.zeros_like(classes)
            self.occlude(features, boxes, masks, Pairs(itself, itself, itself), size)

    def _pool(self, features: Pyramid, boxes: jax.Array, image_size: jax.Array, output_size: int) -> jax.Array:
        levels = features[:4]
        return roi_align(
            levels, boxes, pyramid_level(boxes, len(levels)), strides=STRIDES[:4], output_size=output_size,
            extent=image_extent(image_size),
        )  # fmt: skip


def build_network(model: Mapping[str, Any], categories: CategorySet) -> SOGNet:
    """The network of a config's `model` section.

    Raises:
        ValueError: a field is unknown; the message names it.
    """
    fields = dict(model)
    fields.setdefault('occlusion', {})  # of a checkpoint of before there was one
    fields['dtype'] = jnp.dtype(fields.pop('dtype', 'float32'))
    parts: Mapping[str, type[nn.Module]] = {
        'backbone': ResNet,
        'pyramid': FeaturePyramid,
        'rpn': RegionProposalNetwork,
        'box': BoxHead,
        'mask': MaskHead,
        'semantic': SemanticHead,
        'relation': RelationHead,
        'occlusion': OcclusionHead,
    }
    for name, module in parts.items():
        fields[name] = flax.core.freeze(dict(fields[name]))  # a network is a key of what is compiled for it
        known = module.__dataclass_fields__.keys() - {'parent', 'name', 'dtype', 'num_things', 'num_classes'}
        for field in fields[name].keys() - known:
            raise ValueError(f'config field model.{name}.{field} is unknown; known: {", ".join(sorted(known))}')
    for field in fields.keys() - SOGNet.__dataclass_fields__.keys():
        raise ValueError(f'config field model.{field} is unknown')
    return SOGNet(num_stuff=categories.num_stuff, num_things=categories.num_things, **fields)


def initialize(network: SOGNet, seed: int) -> dict[str, Any]:
    """Fresh variables: collections `params` and, with frozen batch normalisation, `batch_stats`."""
    # The size of the image does not matter to the parameters; this generator compiles three times faster than the
    # default one.
    image = jnp.zeros((1, 64, 64, 3), jnp.uint8)
    boxes = jnp.array([[[0.0, 0.0, 32.0, 32.0]]])
    key = jax.random.key(seed, impl='rbg')
    return dict(jax.jit(network.init)(key, image, boxes, jnp.zeros((1, 1), jnp.int32)))


def initialize_relation_head(network: SOGNet, seed: int) -> dict[str, Any]:
    """Fresh variables of the relation head alone, the same that `initialize` gives it."""
    batch = {
        'classes': jnp.zeros((1, 1), jnp.int32),
        'boxes': jnp.zeros((1, 1, 4)),
        'masks': jnp.zeros((1, 1, MASK_LOGITS_SIDE, MASK_LOGITS_SIDE)),
        'overlap': jnp.zeros((1, 1, 1), bool),
    }
    start = jax.jit(functools.partial(network.init, method='relate_annotated'))
    return dict(start(jax.random.key(seed, impl='rbg'), batch))


def variable_shapes(network: SOGNet, start: Callable[[SOGNet, int], dict[str, Any]] = initialize) -> dict[str, Any]:
    """Shapes and types of the variables that `start` gives a network, without computing them."""
    return jax.eval_shape(lambda: start(network, 0))

"""The semantic head: deformable convolutions on every level, merged at 1/4 of the image (Joint Segmentation)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.kernels.roi_align import roi_align
from sognet_jax.models.fpn import STRIDES
from sognet_jax.models.layers import DeformableConv
from sognet_jax.ops.extent import reduced, zero_outside
from sognet_jax.ops.resize import resize_bilinear, resize_inside

NUM_LEVELS = 4
"""P2 .. P5."""


class SemanticHead(nn.Module):
    """Shared 3x3 deformable convolutions, bilinear up-sampling to P2, concatenation, 1x1 convolution."""

    num_classes: int  # S + T, stuff first
    features: Sequence[int] = (256, 128, 128)  # output channels of each deformable convolution
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """Makes the convolutions, which all levels share, and the weights of the score."""
        for index, width in enumerate(self.features, 1):
            setattr(self, f'conv{index}', DeformableConv(width, dtype=self.dtype))
        shape = (NUM_LEVELS, self.features[-1], self.num_classes)
        self.kernel = self.param('kernel', nn.initializers.normal(0.01), shape)
        self.bias = self.param('bias', nn.initializers.zeros, (self.num_classes,))

    def __call__(self, pyramid: Sequence[jax.Array], extent: jax.Array | None = None) -> jax.Array:
        """P2 .. P5 -> `[B, H / 4, W / 4, S + T]` float32 logits.

        Outside the `[B, 2]` extent in pixels of the image (`ops.extent`) the logits of its edge are repeated.

        Scoring the concatenation of the up-sampled levels equals adding the up-sampled scores of each level, because
        both steps are linear; the second form never holds the concatenation.
        """
        layers = [getattr(self, f'conv{index}') for index in range(1, len(self.features) + 1)]
        _, height, width, _ = pyramid[0].shape
        size = (height, width)
        logits = self.bias
        for x, weights, stride in zip(pyramid, self.kernel, STRIDES, strict=False):
            inside = reduced(extent, stride)
            for layer in layers:
                x = zero_outside(nn.relu(layer(x)), inside)
            score = (x @ weights.astype(self.dtype)).astype(jnp.float32)
            logits = logits + (resize_bilinear(score, size) if inside is None else resize_inside(score, size, inside))
        return logits

    def inside_boxes(
        self, logits: jax.Array, boxes: jax.Array, size: int, extent: jax.Array | None = None
    ) -> jax.Array:
        """What the score layer gives on features pooled from boxes, `[B, R, size, size, S + T]` (published code only).

        As the score is linear, its output is pooled in place of its input. Where a box leaves the image the pooled
        feature is 0 and the score its bias.

        Args:
            logits: `[B, H / 4, W / 4, S + T]`, the output of this head.
            boxes: `[B, R, 4]` half-open boxes in image pixels.
            size: side of the result.
            extent: as in `__call__`.
        """
        level = jnp.zeros(boxes.shape[:2], jnp.int32)
        pooled = roi_align([logits - self.bias], boxes, level, strides=STRIDES[:1], output_size=size, extent=extent)
        return self.bias + pooled

"""The semantic head: deformable convolutions on every level, merged at 1/4 of the image (Joint Segmentation)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from kernels.roi_align import roi_align
from sognet_jax.models.layers import DeformableConv, stack
from sognet_jax.ops.resize import resize_bilinear

NUM_LEVELS = 4
"""P2 .. P5."""

STRIDE = 4
"""Pixels of the image per pixel of the logits."""


class SemanticHead(nn.Module):
    """Shared 3x3 deformable convolutions, bilinear up-sampling to P2, concatenation, 1x1 convolution.

    Attributes:
        num_classes: S + T, stuff first.
        features: output channels of each deformable convolution.
    """

    num_classes: int
    features: Sequence[int] = (256, 128, 128)
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        """Makes the convolutions, which all levels share, and the weights of the score."""
        for index, width in enumerate(self.features, 1):
            setattr(self, f'conv{index}', DeformableConv(width, dtype=self.dtype))
        shape = (NUM_LEVELS, self.features[-1], self.num_classes)
        self.kernel = self.param('kernel', nn.initializers.normal(0.01), shape)
        self.bias = self.param('bias', nn.initializers.zeros, (self.num_classes,))

    def __call__(self, pyramid: Sequence[jax.Array]) -> jax.Array:
        """P2 .. P5 -> `[B, H / 4, W / 4, S + T]` float32 logits.

        Scoring the concatenation of the up-sampled levels equals adding the up-sampled scores of each level, because
        both steps are linear; the second form never holds the concatenation.
        """
        layers = [getattr(self, f'conv{index}') for index in range(1, len(self.features) + 1)]
        size = pyramid[0].shape[1:3]
        logits = self.bias
        for level, weights in zip(pyramid, self.kernel, strict=True):
            score = stack(layers, level) @ weights.astype(self.dtype)
            logits = logits + resize_bilinear(score.astype(jnp.float32), size)
        return logits

    def inside_boxes(self, logits: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
        """The logits that the score layer gives on features pooled from boxes (published code only).

        As the score is linear, its output is pooled in place of its input. Where a box leaves the image the pooled
        feature is 0 and the score its bias.

        Args:
            logits: `[B, H / 4, W / 4, S + T]`, the output of this head.
            boxes: `[B, R, 4]` half-open boxes in image pixels.
            size: side of the result.

        Returns:
            `[B, R, size, size, S + T]`.
        """
        level = jnp.zeros(boxes.shape[:2], jnp.int32)
        return self.bias + roi_align([logits - self.bias], boxes, level, strides=(STRIDE,), output_size=size)

"""The semantic head: deformable convolutions on every level, merged at 1/4 of the image (Joint Segmentation)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.models.layers import DeformableConv, stack
from sognet_jax.ops.resize import resize_bilinear


class SemanticHead(nn.Module):
    """Shared 3x3 deformable convolutions, bilinear up-sampling to P2, concatenation, 1x1 convolution.

    Attributes:
        num_classes: S + T, stuff first.
        features: output channels of each deformable convolution.
    """

    num_classes: int
    features: Sequence[int] = (256, 128, 128)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Sequence[jax.Array]) -> jax.Array:
        """P2 .. P5 -> `[B, H / 4, W / 4, S + T]` float32 logits.

        Scoring the concatenation of the up-sampled levels equals adding the up-sampled scores of each level, because
        both steps are linear; the second form never holds the concatenation.
        """
        layers = [DeformableConv(width, self.dtype, name=f'conv{i}') for i, width in enumerate(self.features, 1)]
        kernel = self.param('kernel', nn.initializers.normal(0.01), (len(pyramid), self.features[-1], self.num_classes))
        bias = self.param('bias', nn.initializers.zeros, (self.num_classes,))
        size = pyramid[0].shape[1:3]
        logits = bias
        for level, weights in zip(pyramid, kernel, strict=True):
            score = stack(layers, level) @ weights.astype(self.dtype)
            logits = logits + resize_bilinear(score.astype(jnp.float32), size)
        return logits

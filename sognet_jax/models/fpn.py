"""Feature pyramid network (Lin et al. 2017)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.models.layers import conv, conv1x1
from sognet_jax.ops.extent import mean_inside, reduced, zero_outside
from sognet_jax.ops.resize import upsample_nearest

STRIDES = (4, 8, 16, 32, 64)
"""Pixels of the image per pixel of P2 .. P6."""


class FeaturePyramid(nn.Module):
    """Lateral 1x1 and output 3x3 convolutions, nearest up-sampling, P6 = every second pixel of P5."""

    features: int = 256  # channels of every level
    global_average: bool = False  # add a projection of the globally averaged res5 to its lateral (published code only)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], extent: jax.Array | None = None) -> list[jax.Array]:
        """res2 .. res5 -> P2 .. P6, each `[B, H / stride, W / stride, features]`; 0 outside the `[B, 2]` extent in
        pixels of the image (`ops.extent`).
        """
        merged = None
        outputs: list[jax.Array] = []
        for level, x in reversed(list(enumerate(stages, start=2))):
            inside = reduced(extent, STRIDES[level - 2])
            lateral = conv1x1(self.features, self.dtype, name=f'lateral{level}')(x)
            if merged is not None:
                lateral += upsample_nearest(merged, 2)
            elif self.global_average:
                lateral += conv1x1(self.features, self.dtype, name='global_average')(mean_inside(x, inside))
            merged = zero_outside(lateral, inside)
            output = conv(self.features, self.dtype, name=f'output{level}')(merged)
            outputs.insert(0, zero_outside(output, inside))
        return [*outputs, outputs[-1][:, ::2, ::2]]

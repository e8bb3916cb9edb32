"""Region proposal network (Ren et al. 2015) on the feature pyramid."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sognet_jax.models.fpn import STRIDES
from sognet_jax.models.layers import conv, conv1x1
from sognet_jax.ops.anchors import anchor_grid


def pyramid_anchors(pyramid: Sequence[jax.Array]) -> list[np.ndarray]:
    """The anchors of each of P2 .. P6, `[n, 4]` half-open boxes in image pixels, in the order of their scores."""
    levels = zip(pyramid, STRIDES, strict=True)
    return [anchor_grid(x.shape[1], x.shape[2], stride).reshape(-1, 4) for x, stride in levels]


class RegionProposalNetwork(nn.Module):
    """A 3x3 convolution and two 1x1 convolutions, shared by all levels; one sigmoid score per anchor."""

    features: int = 256  # channels of the 3x3 convolution
    num_anchors: int = 3  # anchors per pixel (3 ratios at one scale)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Sequence[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """P2 .. P6 -> per level, in the order (row, column, anchor): scores `[B, n]` and deltas `[B, n, 4]`."""
        small = nn.initializers.normal(0.01)
        shared = conv(self.features, self.dtype, name='conv')
        classify = conv1x1(self.num_anchors, self.dtype, name='score', kernel_init=small)
        regress = conv1x1(4 * self.num_anchors, self.dtype, name='box', kernel_init=small)
        scores, deltas = [], []
        for level in pyramid:
            x = nn.relu(shared(level))
            batch = x.shape[0]
            scores.append(classify(x).reshape(batch, -1).astype(jnp.float32))
            deltas.append(regress(x).reshape(batch, -1, 4).astype(jnp.float32))
        return scores, deltas

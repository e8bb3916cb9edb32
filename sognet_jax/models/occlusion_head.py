"""The learned occlusion head of OCFusion (Lazarow et al. 2020): which of two instances lies on the other."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.contract import MASK_LOGITS_SIDE
from sognet_jax.kernels.mask_statistics import mask_statistics
from sognet_jax.models.layers import conv, stack

LEAST_OVERLAP = 0.2
"""The head is asked of pairs whose masks share at least this much of either one."""


class OcclusionHead(nn.Module):
    """Pooled features and mask probabilities of two instances, one behind the other in channels -> one logit."""

    width: int  # channels of the convolutions; a network with a width of 0 has no such head
    features: int  # of the fully connected layer
    side: int  # of the pooled features, to which masks are brought by their maxima
    pairs: int  # so many pairs of an image are looked at
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pooled: jax.Array, mask_logits: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        """The logit of each pair's first instance lying on the second.

        Args:
            pooled: `[B, R, side, side, C]` features of the instances.
            mask_logits: `[B, R, 28, 28]`.
            first, second: `[B, P]` int, the instances of each pair; so is the result, float32.
        """
        cell, rest = divmod(MASK_LOGITS_SIDE, self.side)
        if rest:
            raise ValueError(f'config field model.occlusion.side must divide {MASK_LOGITS_SIDE}, not {self.side}')
        masks = nn.sigmoid(mask_logits).reshape(*first.shape[:1], -1, self.side, cell, self.side, cell).max((3, 5))
        instances = jnp.concatenate([pooled, masks[..., None].astype(pooled.dtype)], axis=-1)
        pairs = jax.vmap(lambda x, i, j: jnp.concatenate([x[i], x[j]], axis=-1))(instances, first, second)
        x = pairs.reshape(-1, *pairs.shape[2:])
        x = stack([conv(self.width, self.dtype, name=f'conv{i}') for i in (1, 2, 3)], x)
        x = nn.relu(conv(self.width, self.dtype, stride=2, name='conv4')(x))
        x = nn.relu(nn.Dense(self.features, dtype=self.dtype, name='fc')(x.reshape(len(x), -1)))
        return nn.Dense(1, name='logit')(x.astype(jnp.float32)).reshape(first.shape)


def overlapping_enough(
    mask_logits: jax.Array, boxes: jax.Array, valid: jax.Array, image_size: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """Pairs whose masks share `LEAST_OVERLAP` of the smaller one, `[B, R, R]` bool; arguments as elsewhere."""
    compare, any_class = functools.partial(mask_statistics, size=size, num_classes=1), jnp.zeros(valid.shape, int)
    return jax.vmap(compare)(mask_logits, boxes, any_class, valid, image_size)[1] >= LEAST_OVERLAP

"""The box head and the mask head of Mask R-CNN (He et al. 2017)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.models.layers import Upsample2x, conv, interleave, stack


class BoxHead(nn.Module):
    """Two fully connected layers on pooled features; class scores and one box per thing class."""

    num_things: int
    features: int = 1024
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pooled: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[B, R, 7, 7, C]` -> class logits `[B, R, T + 1]` (0 is background), box deltas `[B, R, T, 4]`."""
        x = pooled.reshape(*pooled.shape[:2], -1)
        x = stack([nn.Dense(self.features, dtype=self.dtype, name=name) for name in ('fc6', 'fc7')], x)
        x = x.astype(jnp.float32)
        logits = nn.Dense(self.num_things + 1, kernel_init=nn.initializers.normal(0.01), name='score')(x)
        deltas = nn.Dense(4 * self.num_things, kernel_init=nn.initializers.normal(0.001), name='box')(x)
        return logits, deltas.reshape(*deltas.shape[:2], self.num_things, 4)


class MaskHead(nn.Module):
    """Convolutions, one 2x2 transposed convolution, and a mask per class, of which only the asked one is computed."""

    num_things: int
    features: int = 256
    num_convs: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pooled: jax.Array, classes: jax.Array) -> jax.Array:
        """`[B, R, 14, 14, C]` features and `[B, R]` thing classes of boxes -> `[B, R, 28, 28]` float32 mask logits."""
        batch, count = classes.shape
        x = pooled.reshape(batch * count, *pooled.shape[2:])
        x = stack([conv(self.features, self.dtype, name=f'conv{i}') for i in range(1, self.num_convs + 1)], x)
        x = nn.relu(Upsample2x(self.features, self.dtype, name='deconv')(x)).astype(jnp.float32)
        kernel = self.param('kernel', nn.initializers.normal(0.02), (self.num_things, self.features))
        bias = self.param('bias', nn.initializers.zeros, (self.num_things,))
        own = classes.reshape(-1)
        logits = jnp.einsum('rhwqc,rc->rhwq', x, kernel[own]) + bias[own][:, None, None, None]
        logits = interleave(logits)
        return logits.reshape(batch, count, *logits.shape[1:])

"""Layers that several parts of the network share."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.kernels.choice import current_target
from sognet_jax.kernels.deform_conv import deform_conv2d
from sognet_jax.ops.convolution import convolve

Array = jax.Array
NORMS = ('frozen_batch', 'group')

Initializer = nn.initializers.Initializer

he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with fixed statistics, scale and bias ("we freeze all batch normalization layers").

    Everything lives in the collection `batch_stats`, so that no optimizer ever sees it.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalises the last axis of `[..., C]`."""
        channels = x.shape[-1:]
        scale = self.variable('batch_stats', 'scale', jnp.ones, channels).value
        bias = self.variable('batch_stats', 'bias', jnp.zeros, channels).value
        mean = self.variable('batch_stats', 'mean', jnp.zeros, channels).value
        variance = self.variable('batch_stats', 'var', jnp.ones, channels).value
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        return x * factor.astype(x.dtype) + (bias - mean * factor).astype(x.dtype)


def make_norm(kind: str, features: int, dtype: jnp.dtype, **options) -> nn.Module:
    """A normalisation layer: `frozen_batch` as published, or `group` for training from scratch.

    Raises:
        ValueError: `kind` is neither.
    """
    if kind == 'frozen_batch':
        return FrozenBatchNorm(name=options.get('name'))
    if kind == 'group':
        return nn.GroupNorm(num_groups=min(32, features // 4), dtype=dtype, **options)
    raise ValueError(f'norm must be one of {NORMS}, not {kind!r}')


def conv(
    features: int,
    dtype: jnp.dtype,
    *,
    name: str,
    size: int = 3,
    stride: int = 1,
    use_bias: bool = True,
    kernel_init: Initializer = he_normal,
) -> nn.Conv:
    """A convolution of `size` by `size` pixels, an odd number, half of which it pads on every side."""
    return nn.Conv(
        features, (size, size), strides=stride, padding=size // 2, use_bias=use_bias, dtype=dtype,
        kernel_init=kernel_init, conv_general_dilated=_convolve, name=name,
    )  # fmt: skip


def _convolve(x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[Any], **options: Any) -> Array:
    if current_target().platform == 'cpu':
        return convolve(x, kernel, tuple(strides), tuple(padding))
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def conv1x1(features: int, dtype: jnp.dtype, *, use_bias: bool = True, **options) -> nn.Dense:
    """A 1x1 convolution, written as a product over the last axis: on CPUs its gradient is several times faster."""
    options = {'kernel_init': he_normal} | options
    return nn.Dense(features, use_bias=use_bias, dtype=dtype, dot_general=_product_of_rows, **options)


def _product_of_rows(x: Array, kernel: Array, dimension_numbers: Any = None, **options: Any) -> Array:
    """`[..., C]` times `[C, features]`: with one axis of rows XLA need not transpose for the gradient of the kernel."""
    rows = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options)
    return rows.reshape(*x.shape[:-1], -1)


class DeformableConv(nn.Module):
    """3x3 deformable convolution (v1) whose offsets come from a 3x3 convolution that starts at zero."""

    features: int  # output channels
    stride: int = 1  # of the output pixels
    use_bias: bool = True  # False where a normalisation follows
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, H, W, C]` -> `[B, H / stride, W / stride, features]`."""
        zeros = nn.initializers.zeros
        offset = conv(18, self.dtype, stride=self.stride, kernel_init=zeros, name='offset')(x)
        kernel = self.param('kernel', he_normal, (3, 3, x.shape[-1], self.features)).astype(self.dtype)
        bias = self.param('bias', zeros, (self.features,)).astype(self.dtype) if self.use_bias else None
        return deform_conv2d(x, offset, kernel, bias, stride=self.stride, padding=1)


class Upsample2x(nn.Module):
    """2x2 transposed convolution with stride 2, one product per pixel: the four new pixels stay an axis of their own.

    `interleave` puts them into their places, best after the channels have become few.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[..., H, W, C]` -> `[..., H, W, 4, features]`, the new pixels in the order of rows."""
        kernel = self.param('kernel', he_normal, (x.shape[-1], 2, 2, self.features))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        y = _product_of_rows(x, kernel.astype(self.dtype).reshape(x.shape[-1], -1))
        return y.reshape(*x.shape[:-1], 4, self.features) + bias.astype(self.dtype)


def interleave(x: Array) -> Array:
    """`[..., H, W, 4]` values of the 2x2 pixels that each pixel became -> `[..., 2 H, 2 W]`."""
    *batch, height, width, _ = x.shape
    return jnp.swapaxes(x.reshape(*batch, height, width, 2, 2), -3, -2).reshape(*batch, 2 * height, 2 * width)


def stack(layers: list[Callable[[Array], Array]], x: Array) -> Array:
    """Applies layers one after the other with a ReLU behind each."""
    return functools.reduce(lambda value, layer: nn.relu(layer(value)), layers, x)

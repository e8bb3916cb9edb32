"""A convolution whose gradients are fast in every part of a program that XLA compiles for a CPU."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

LAYOUT = 'NHWC', 'HWIO', 'NHWC'

Padding = Sequence[tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding) -> jax.Array:
    """`jax.lax.conv_general_dilated`, `[B, H', W', F]`, whose gradients are convolutions of the same layout as itself.

    JAX's own gradients have other layouts. XLA brings those of a program's outermost part into the one that its
    libraries take, but not those inside a loop or a branch, for which it writes plain loops: 150 times slower.

    Args:
        x: `[B, H, W, C]`.
        kernel: `[h, w, C, F]`.
        strides: of the rows and columns of the result.
        padding: zeros before and after the rows and the columns of `x`.
    """
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def _forward(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel, strides, padding), (x, kernel)


def _backward(
    strides: tuple[int, int], padding: Padding, inputs: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    axes = list(zip(x.shape[1:3], kernel.shape[:2], gradient.shape[1:3], strides, padding, strict=True))
    # Of x: the transposed convolution. What it needs after the last row is what makes the result as long as x.
    around = [
        (size - 1 - before, length + before - (count - 1) * stride - 1)
        for length, size, count, stride, (before, _) in axes
    ]
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    of_x = jax.lax.conv_general_dilated(
        gradient, turned, (1, 1), around, lhs_dilation=strides, dimension_numbers=LAYOUT
    )  # fmt: skip
    # Of the kernel: channels take the place of images, images that of channels.
    around = [
        (before, (count - 1) * stride + size - length - before) for length, size, count, stride, (before, _) in axes
    ]
    of_kernel = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), (1, 1), around, rhs_dilation=strides,
        dimension_numbers=LAYOUT,
    )  # fmt: skip
    return of_x, of_kernel.transpose(1, 2, 0, 3)


convolve.defvjp(_forward, _backward)

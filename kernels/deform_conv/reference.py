"""Deformable convolution in plain XLA: this is the operator's meaning.

One tap after the other is sampled and multiplied, and sampled again in the backward pass, so that the column buffer of
nine times the input never exists.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def deform_conv2d(
    x: jax.Array,
    offset: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array | None,
    *,
    stride: int,
    padding: int,
    dilation: int,
    offset_groups: int,
) -> jax.Array:
    """See `kernels.deform_conv.deform_conv2d`."""
    batch, out_height, out_width, _ = offset.shape
    kernel_height, kernel_width, channels, features = weight.shape
    taps = kernel_height * kernel_width
    offset = offset.reshape(batch, out_height, out_width, offset_groups, taps, 2).astype(jnp.float32)
    mask = jnp.ones(offset.shape[:-1], x.dtype) if mask is None else mask.reshape(offset.shape[:-1])
    rows = (jnp.arange(out_height) * stride - padding)[:, None, None].astype(jnp.float32)
    columns = (jnp.arange(out_width) * stride - padding)[:, None].astype(jnp.float32)

    @jax.checkpoint
    def add_tap(total: jax.Array, tap: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        index, tap_offset, tap_mask, tap_weight = tap
        y = rows + index // kernel_width * dilation + tap_offset[..., 0]
        x_position = columns + index % kernel_width * dilation + tap_offset[..., 1]
        values = sample_bilinear(x, y, x_position) * tap_mask[..., None].astype(x.dtype)
        values = values.reshape(batch, out_height, out_width, channels)
        return total + jnp.matmul(values, tap_weight, preferred_element_type=jnp.float32), None

    per_tap = (
        jnp.arange(taps),
        jnp.moveaxis(offset, 4, 0),
        jnp.moveaxis(mask, 4, 0),
        weight.reshape(taps, channels, features),
    )
    total = jnp.zeros((batch, out_height, out_width, features), jnp.float32)
    total, _ = jax.lax.scan(add_tap, total, per_tap)
    if bias is not None:
        total = total + bias
    return total.astype(x.dtype)


def sample_bilinear(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Bilinear samples with zeros around the image.

    Args:
        image: `[B, H, W, C]`.
        y, x: `[B, Ho, Wo, G]` positions in pixels, one for every group of C / G channels.

    Returns:
        `[B, Ho, Wo, G, C / G]`. Derivatives at whole pixels are those from the right.
    """
    batch, height, width, channels = image.shape
    groups = y.shape[-1]
    # One row a pixel and group: gathers and scatters then move whole rows.
    table = image.reshape(-1, channels // groups)
    image_start = (jnp.arange(batch) * height * width)[:, None, None, None]
    top, left = jnp.floor(y), jnp.floor(x)
    below, right = y - top, x - left
    samples = jnp.zeros((), image.dtype)
    for corner_y, weight_y in ((top, 1 - below), (top + 1, below)):
        for corner_x, weight_x in ((left, 1 - right), (left + 1, right)):
            inside = (corner_y >= 0) & (corner_y < height) & (corner_x >= 0) & (corner_x < width)
            row = jnp.clip(corner_y, 0, height - 1).astype(jnp.int32)
            column = jnp.clip(corner_x, 0, width - 1).astype(jnp.int32)
            index = (image_start + row * width + column) * groups + jnp.arange(groups)
            weight = jnp.where(inside, weight_y * weight_x, 0.0).astype(image.dtype)
            samples = samples + jnp.take(table, index, axis=0, mode='clip') * _repeat(weight, table.shape[-1])
    return samples


def _repeat(x: jax.Array, times: int) -> jax.Array:
    """`[...]` -> `[..., times]`, as a product with ones, whose transpose is a product too.

    The transpose of a plain broadcast is a reduction, which XLA fuses with the gather before it into a loop that is six
    times slower on a CPU.
    """
    return jnp.matmul(x[..., None], jnp.ones((1, times), x.dtype))

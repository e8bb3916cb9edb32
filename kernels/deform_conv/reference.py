"""Deformable convolution in plain XLA: this is the operator's meaning.

Output positions are worked on by strips that stay in a cache: tap by tap, a strip's samples `[strip, C]` are multiplied
and added to its outputs. The column buffer of nine times the input never exists.
The backward pass is written out: it samples again and gathers every pixel once for all gradients.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax.kernels.choice import current_target

STRIP_VALUES = {'cpu': 1 << 21, 'any': 1 << 23}
"""Values that a strip has for all taps, by platform: 8 MB in float32 stay in the outer cache of a CPU."""

LARGE_STRIP = 1 << 26
"""Of accelerators, where each strip is a few launches for each tap."""


class Samples(NamedTuple):
    """The samples of P output positions: arrays `[P, K, G]`, float32, for K taps and G offset groups."""

    y: jax.Array  # pixels, as is x
    x: jax.Array
    factor: jax.Array  # the mask of v2


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
    row, column = jnp.meshgrid(jnp.arange(out_height), jnp.arange(out_width), indexing='ij')
    tap_y, tap_x = jnp.divmod(jnp.arange(taps), kernel_width)
    offset = offset.reshape(batch, out_height, out_width, offset_groups, taps, 2).astype(jnp.float32)
    y = (row * stride - padding)[:, :, None, None] + tap_y * dilation + offset[..., 0]
    x_position = (column * stride - padding)[:, :, None, None] + tap_x * dilation + offset[..., 1]
    factor = jnp.ones(y.shape, jnp.float32) if mask is None else mask.reshape(y.shape).astype(jnp.float32)
    samples = Samples(*(a.reshape(-1, offset_groups, taps).swapaxes(1, 2) for a in (y, x_position, factor)))
    matrix = weight.reshape(taps * channels, features)
    output = _sample_and_multiply(x, samples, matrix).reshape(batch, out_height, out_width, features)
    if bias is not None:
        output = output + bias
    return output.astype(x.dtype)


@jax.custom_vjp
def _sample_and_multiply(image: jax.Array, samples: Samples, matrix: jax.Array) -> jax.Array:
    """`[B, H, W, C]`, the samples of P positions and `[K * C, O]` -> `[P, O]` float32."""
    table = _pixel_table(image, samples)
    taps = matrix.reshape(-1, image.shape[-1], matrix.shape[-1])

    def multiply(strip: tuple[jax.Array, Samples]) -> jax.Array:
        indices, shares = _corners(image.shape, *strip)

        def add_tap(total: jax.Array, tap: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            index, factors = tap
            columns = _combine(_gather(table, indices[:, :, index]), shares[:, :, index])
            return total + jnp.matmul(columns, factors, preferred_element_type=jnp.float32), None

        zeros = jnp.zeros((indices.shape[1], matrix.shape[-1]), jnp.float32)
        return jax.lax.scan(add_tap, zeros, (jnp.arange(len(taps)), taps))[0]

    outputs = jax.lax.map(multiply, _strips((_image_starts(image, samples), samples), len(matrix)))
    return outputs.reshape(-1, outputs.shape[-1])[: len(samples.y)]


def _forward(image: jax.Array, samples: Samples, matrix: jax.Array) -> tuple[jax.Array, tuple]:
    return _sample_and_multiply(image, samples, matrix), (image, samples, matrix)


def _backward(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, Samples, jax.Array]:
    image, samples, matrix = saved
    table = _pixel_table(image, samples)

    def add_strip(totals: tuple[jax.Array, jax.Array], strip: tuple) -> tuple[tuple[jax.Array, jax.Array], Samples]:
        of_table, of_matrix = totals
        starts, samples, of_outputs = strip
        indices, shares = _corners(image.shape, starts, samples)
        of_columns = jnp.matmul(of_outputs, matrix.T, preferred_element_type=jnp.float32)

        # A loop compiles in a third of the time that nine copies take, and needs the memory of one tap.
        def add_tap(of_table: jax.Array, tap: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            index, share = indices[:, :, tap], shares[:, :, tap]
            corners = _gather(table, index)
            of_column = jax.lax.dynamic_slice_in_dim(of_columns, tap * image.shape[-1], image.shape[-1], 1)
            of_column = of_column.reshape(corners[0].shape)
            of_table = _scatter(of_table, index, share, of_column)
            return of_table, (_combine(corners, share), _dot_corners(corners, of_column))

        of_table, (columns, of_shares) = jax.lax.scan(add_tap, of_table, jnp.arange(shares.shape[2]))
        of_taps = jnp.einsum('kpc,po->kco', columns, of_outputs, preferred_element_type=jnp.float32)
        of_matrix += of_taps.reshape(of_matrix.shape)
        pull_back = jax.vjp(lambda samples: _corners(image.shape, starts, samples)[1], samples)[1]
        return (of_table, of_matrix), pull_back(jnp.moveaxis(of_shares, 0, 2))[0]

    strips = _strips((_image_starts(image, samples), samples, gradient.astype(image.dtype)), len(matrix))
    zeros = jnp.zeros(table.shape, jnp.float32), jnp.zeros(matrix.shape, jnp.float32)
    (of_table, of_matrix), of_samples = jax.lax.scan(add_strip, zeros, strips)
    of_samples = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(samples.y)], of_samples)
    return of_table.reshape(image.shape).astype(image.dtype), of_samples, of_matrix.astype(matrix.dtype)


_sample_and_multiply.defvjp(_forward, _backward)


def _pixel_table(image: jax.Array, samples: Samples) -> jax.Array:
    """`[B * H * W * G, C / G]`: gathers and scatters move whole rows."""
    return image.reshape(-1, image.shape[-1] // samples.y.shape[-1])


def _image_starts(image: jax.Array, samples: Samples) -> jax.Array:
    """For every output position the number of pixels before its image, `[P]`."""
    batch, height, width, _ = image.shape
    return jnp.repeat(jnp.arange(batch) * height * width, len(samples.y) // batch)


def _strips(arrays: Any, columns: int) -> Any:
    """Arrays `[P, ...]` -> `[strips, positions of a strip, ...]`; samples with factor 0 fill the last strip."""
    length = max(STRIP_VALUES.get(current_target().platform, LARGE_STRIP) // columns, 1)

    def split(array: jax.Array) -> jax.Array:
        strip = min(length, len(array))
        missing = -len(array) % strip
        padded = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(-1, strip, *array.shape[1:])

    return jax.tree.map(split, arrays)


def _corners(shape: tuple[int, ...], starts: jax.Array, samples: Samples) -> tuple[jax.Array, jax.Array]:
    """The four pixels around every sample: rows of the pixel table, and their shares of it, `[4, P, K, G]` each.

    Pixels outside the image have the share 0. Derivatives of the shares at whole pixels are those from the right.
    """
    _, height, width, _ = shape
    top, left = jnp.floor(samples.y), jnp.floor(samples.x)
    below, right = samples.y - top, samples.x - left
    groups = samples.y.shape[-1]
    indices, shares = [], []
    for y, share_y in ((top, 1 - below), (top + 1, below)):
        for x, share_x in ((left, 1 - right), (left + 1, right)):
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            pixel = jnp.clip(y, 0, height - 1).astype(jnp.int32) * width + jnp.clip(x, 0, width - 1).astype(jnp.int32)
            indices.append((starts[:, None, None] + pixel) * groups + jnp.arange(groups))
            shares.append(jnp.where(inside, share_y * share_x, 0.0) * samples.factor)
    return jnp.stack(indices), jnp.stack(shares)


def _gather(table: jax.Array, index: jax.Array) -> list[jax.Array]:
    """The four corners `[P, G, C / G]`. An offset that is not a number must not lead out of the table."""
    return [jnp.take(table, corner, axis=0, mode='clip') for corner in index]


def _scatter(table: jax.Array, index: jax.Array, share: jax.Array, values: jax.Array) -> jax.Array:
    """Adds the four corners' shares `[4, P, G]` of the values `[P, G, C / G]` to their rows."""
    for corner_index, corner_share in zip(index, share, strict=True):
        table = table.at[corner_index].add(values * corner_share[..., None], mode='clip')
    return table


def _combine(corners: Sequence[jax.Array], share: jax.Array) -> jax.Array:
    """Four corners `[P, G, C / G]` and their shares `[4, P, G]` -> samples `[P, C]`."""
    samples = sum(corner * part[..., None].astype(corner.dtype) for corner, part in zip(corners, share, strict=True))
    return samples.reshape(len(samples), -1)


def _dot_corners(corners: Sequence[jax.Array], gradient: jax.Array) -> jax.Array:
    """Four corners `[P, G, C / G]` and the gradient of their combination -> the gradient of their shares `[4, P, G]`.

    Not as a sum of products: XLA would gather again inside the reduction, three times slower on a CPU.
    """
    return jnp.stack([jnp.einsum('pgc,pgc->pg', corner.astype(jnp.float32), gradient) for corner in corners])

"""The two backward kernels of deformable convolution: gradients of the inputs that are sampled, and of the weights."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from sognet_jax.kernels.choice import current_target
from sognet_jax.kernels.deform_conv.triton_sampling import (
    Corner,
    Geometry,
    Pixels,
    Tiling,
    compiler_params,
    find_corners,
    load_corner,
    load_factor,
    load_features,
    make_busy_tiling,
    make_tiling,
    sample,
    tile_pixels,
)
from sognet_jax.kernels.triton_atomics import add_rows

WINDOW = 16
"""Side of the window of input pixels around a tile."""


def input_gradients(
    geometry: Geometry,
    interpret: bool,
    x: jax.Array,
    offset: jax.Array,
    weight: jax.Array,
    mask: jax.Array | None,
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Gradients of `x`, `offset` and `mask` (None without one), float32.

    A program owns a tile of output pixels and a block of channels. For each tap, the gradient of its samples is a
    product with the tap's weights, and its sums against the values at the four corners are the gradients of offset and
    mask. What `x` gains is kept for a window of input pixels around the tile: with which shares each sample was read
    from which of them is a matrix, by which the gradients are multiplied. When all taps are done, the window is added
    to memory by atomics, a tenth of those that single corners would take. Corners outside the window, where offsets
    lead far away, are added one by one.

    Args:
        geometry: sizes.
        interpret: run in Pallas's interpreter.
        x: `[input pixels, channels]`.
        offset: `[output pixels, G * K * 2]`.
        weight: `[K, channels, features]`.
        mask: `[output pixels, G * K]` or None.
        gradient: of the output, `[output pixels, features]`, in the type of `x`.
    """
    # By what the compiler says: with 64 channels the registers of older GPUs, and those of float32, do not suffice.
    most_channels, features, stages = 32, 64, 2
    if x.dtype.itemsize == 2 and current_target().capability >= (9, 0):
        most_channels, features, stages = 64, 32, 1
    geometry = dataclasses.replace(
        geometry,
        channel_block=min(geometry.channel_block, most_channels),
        feature_block=min(geometry.feature_block, features),
    )
    channel_blocks = geometry.groups * geometry.channel_blocks
    # Square tiles, since a window is: 8 x 8 pixels and their taps have 3 pixels around them for offsets.
    tiling = make_busy_tiling(geometry, 64 if geometry.stride == 1 else 16, channel_blocks, columns=8)
    taps = geometry.groups * geometry.taps
    sums = [(geometry.channel_blocks, geometry.out_pixels, 2 * taps)]
    sums += [] if mask is None else [(geometry.channel_blocks, geometry.out_pixels, taps)]
    inputs = (x, offset, weight, mask, gradient, jnp.zeros(x.shape, jnp.float32))
    of_x, *of_others = pl.pallas_call(
        functools.partial(_input_kernel, geometry=geometry, tiling=tiling, interpret=interpret),
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x.shape, *sums)],
        # Channels of a tile run at the same time: they read the same gradients, which then are in cache. The first axis
        # alone has room for the tiles of any batch.
        grid=(tiling.count * channel_blocks,),
        # Atomics add to what is there: the last input, zeros, becomes the gradient of x.
        input_output_aliases={len(jax.tree.leaves(inputs)) - 1: 0},
        compiler_params=plt.CompilerParams(num_warps=16, num_stages=stages),
        interpret=interpret,
        name='deform_conv2d_input_gradients',
    )(*inputs)
    of_offset, *of_mask = (jnp.sum(partial, axis=0) for partial in of_others)
    return of_x, of_offset, of_mask[0] if of_mask else None


class _Window(NamedTuple):
    """The input pixels around a tile, `WINDOW` in each direction, row by row."""

    top: jax.Array
    left: jax.Array
    table_row: jax.Array  # row in a table of all input pixels; the image's first where not inside
    inside: jax.Array

    def place(self, corner: Corner) -> jax.Array:
        """Where corners lie in the window, -1 where they do not."""
        y, x = corner.y - self.top, corner.x - self.left
        return jnp.where(corner.inside & (y >= 0) & (y < WINDOW) & (x >= 0) & (x < WINDOW), y * WINDOW + x, -1)


def _window(geometry: Geometry, tiling: Tiling, pixels: Pixels) -> _Window:
    """The window whose middle is that of what the taps of a tile read without offsets."""

    def first(positions: jax.Array, count: int, kernel: int) -> jax.Array:
        reach = (count - 1) * geometry.stride + (kernel - 1) * geometry.dilation + 1
        return jnp.min(positions) * geometry.stride - geometry.padding - (WINDOW - reach) // 2

    kernel_height = geometry.taps // geometry.kernel_width
    top = first(pixels.y, tiling.rows, kernel_height)
    left = first(pixels.x, tiling.columns, geometry.kernel_width)
    place = jnp.arange(WINDOW**2, dtype=jnp.int32)
    y, x = top + lax.div(place, WINDOW), left + lax.rem(place, WINDOW)
    inside = (y >= 0) & (y < geometry.height) & (x >= 0) & (x < geometry.width)
    row = (pixels.image * geometry.height + y) * geometry.width + x
    return _Window(top, left, jnp.where(inside, row, 0), inside)


def _input_kernel(
    x_ref: jax.Ref,
    offset_ref: jax.Ref,
    weight_ref: jax.Ref,
    mask_ref: jax.Ref | None,
    gradient_ref: jax.Ref,
    zeros_ref: jax.Ref,
    of_x_ref: jax.Ref,
    of_offset_ref: jax.Ref,
    of_mask_ref: jax.Ref | None = None,
    *,
    geometry: Geometry,
    tiling: Tiling,
    interpret: bool,
) -> None:
    del zeros_ref
    channel_blocks = geometry.groups * geometry.channel_blocks
    tile, of_channels = lax.div(pl.program_id(0), channel_blocks), lax.rem(pl.program_id(0), channel_blocks)
    group, block = lax.div(of_channels, geometry.channel_blocks), lax.rem(of_channels, geometry.channel_blocks)
    channel = of_channels * geometry.channel_block
    columns = channel + jnp.arange(geometry.channel_block, dtype=jnp.int32)
    pixels = tile_pixels(geometry, tiling, tile)
    window = _window(geometry, tiling, pixels)
    places = jnp.arange(WINDOW**2, dtype=jnp.int32)[None, :]

    def add_far(corners: list[Corner], of_samples: jax.Array) -> None:
        for corner in corners:
            of_corner = of_samples * corner.weight[:, None]
            add_rows(of_x_ref, corner.table_row, columns, of_corner, corner.inside[:, None], interpret=interpret)

    def add_tap(tap: jax.Array, total: jax.Array) -> jax.Array:
        corners = find_corners(geometry, pixels, offset_ref, group, tap)
        factor = load_factor(geometry, pixels, mask_ref, group, tap)

        of_samples = _gradient_of_samples(geometry, weight_ref, gradient_ref, pixels, tap, channel)
        sums, far, is_any_far = [], [], jnp.zeros((), jnp.int32)
        shares = jnp.zeros((tiling.pixels, WINDOW**2), jnp.float32)
        for corner in corners:
            sums.append(jnp.sum(of_samples * load_corner(geometry, x_ref, corner, channel), axis=1))
            place = window.place(corner)
            weighted = corner.weight if factor is None else corner.weight * factor
            shares = shares + jnp.where(place[:, None] == places, weighted[:, None], 0.0)
            is_far = corner.inside & (place < 0)
            far.append(corner._replace(inside=is_far, weight=weighted))
            is_any_far = jnp.maximum(is_any_far, jnp.max(is_far.astype(jnp.int32)))
        pl.when(is_any_far > 0)(functools.partial(add_far, far, of_samples))
        column = group * geometry.taps + tap
        for axis, slopes in enumerate(zip(*((corner.slope_y, corner.slope_x) for corner in corners), strict=True)):
            of_axis = _weighted(slopes, sums) if factor is None else _weighted(slopes, sums) * factor
            plt.store(of_offset_ref.at[block, pixels.table_row, 2 * column + axis], of_axis, mask=pixels.valid)
        if of_mask_ref is not None:
            of_mask = _weighted([corner.weight for corner in corners], sums)
            plt.store(of_mask_ref.at[block, pixels.table_row, column], of_mask, mask=pixels.valid)
        return total + plt.dot(shares.astype(x_ref.dtype), of_samples.astype(x_ref.dtype), trans_a=True)

    total = jnp.zeros((WINDOW**2, geometry.channel_block), jnp.float32)
    total = lax.fori_loop(0, geometry.taps, add_tap, total)
    add_rows(of_x_ref, window.table_row, columns, total, window.inside[:, None], interpret=interpret)


def _gradient_of_samples(
    geometry: Geometry, weight_ref: jax.Ref, gradient_ref: jax.Ref, pixels: Pixels, tap: jax.Array, channel: jax.Array
) -> jax.Array:
    """What the samples of one tap and a block of channels gain: float32 `[pixels, channel block]`."""

    def add_features(index: jax.Array, total: jax.Array) -> jax.Array:
        feature = index * geometry.feature_block
        channels, features = pl.ds(channel, geometry.channel_block), pl.ds(feature, geometry.feature_block)
        weight = plt.load(weight_ref.at[tap, channels, features])
        return total + plt.dot(load_features(geometry, gradient_ref, pixels, feature), weight, trans_b=True)

    zeros = jnp.zeros((len(pixels.valid), geometry.channel_block), jnp.float32)
    return lax.fori_loop(0, geometry.feature_blocks, add_features, zeros)


def _weighted(weights: Sequence[jax.Array], values: Sequence[jax.Array]) -> jax.Array:
    total = jnp.zeros((), jnp.float32)
    for weight, value in zip(weights, values, strict=True):
        total = total + weight * value
    return total


def weight_gradient(
    geometry: Geometry, interpret: bool, x: jax.Array, offset: jax.Array, mask: jax.Array | None, gradient: jax.Array
) -> jax.Array:
    """The gradient of the weights, float32 `[K, channels, features]`.

    A program owns one tap, a block of channels, a block of features and a share of the pixels, which it samples again.
    The shares' sums are added afterwards, always in the same order. Arguments are those of `input_gradients`.
    """
    if x.dtype.itemsize == 2 and geometry.channels % 128 == 0:  # half as many programs read the gradients
        geometry = dataclasses.replace(geometry, channel_block=128)
    tiling = make_tiling(geometry, 64)
    blocks = geometry.taps * geometry.groups * geometry.channel_blocks
    # Two programs for each multiprocessor, and not one more, which would be a round of its own.
    shares = max(2 * current_target().multiprocessors // (blocks * geometry.feature_blocks), 1)
    shares = min(shares, tiling.count)
    partial_sums = pl.pallas_call(
        functools.partial(_weight_kernel, geometry=geometry, tiling=tiling, tiles=pl.cdiv(tiling.count, shares)),
        out_shape=jax.ShapeDtypeStruct((shares, geometry.taps, geometry.all_channels, geometry.features), jnp.float32),
        # All taps and channels of a share run at the same time: they read the same pixels, which then are in cache.
        grid=(blocks, geometry.feature_blocks * shares),
        compiler_params=compiler_params(x.dtype),
        interpret=interpret,
        name='deform_conv2d_weight_gradient',
    )(x, offset, mask, gradient)
    return jnp.sum(partial_sums, axis=0)


def _weight_kernel(
    x_ref: jax.Ref,
    offset_ref: jax.Ref,
    mask_ref: jax.Ref | None,
    gradient_ref: jax.Ref,
    partial_ref: jax.Ref,
    *,
    geometry: Geometry,
    tiling: Tiling,
    tiles: int,
) -> None:
    channel_blocks = geometry.groups * geometry.channel_blocks
    tap, block = lax.div(pl.program_id(0), channel_blocks), lax.rem(pl.program_id(0), channel_blocks)
    group, channel = lax.div(block, geometry.channel_blocks), block * geometry.channel_block
    share = lax.div(pl.program_id(1), geometry.feature_blocks)
    feature = lax.rem(pl.program_id(1), geometry.feature_blocks) * geometry.feature_block

    def add_tile(index: jax.Array, total: jax.Array) -> jax.Array:
        pixels = tile_pixels(geometry, tiling, share * tiles + index)
        corners = find_corners(geometry, pixels, offset_ref, group, tap)
        factor = load_factor(geometry, pixels, mask_ref, group, tap)
        values = sample(geometry, x_ref, corners, factor, channel)
        gradient = load_features(geometry, gradient_ref, pixels, feature)
        return total + plt.dot(values, gradient, trans_a=True)

    total = jnp.zeros((geometry.channel_block, geometry.feature_block), jnp.float32)
    total = lax.fori_loop(0, tiles, add_tile, total)
    channels, features = pl.ds(channel, geometry.channel_block), pl.ds(feature, geometry.feature_block)
    plt.store(partial_ref.at[share, tap, channels, features], total)

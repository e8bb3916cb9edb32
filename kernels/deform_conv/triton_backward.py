"""The two backward kernels of deformable convolution: gradients of the inputs that are sampled, and of the weights."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from sognet_jax.kernels.deform_conv.triton_sampling import (
    Geometry,
    Tiling,
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

_PARAMETERS = plt.CompilerParams(num_warps=8, num_stages=2)


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

    A program owns a tile of output pixels and one tap of one offset group. The gradient of its samples is a product
    with the tap's weights; it is added into the gradient of `x` at the four corners by atomics, and its sums against
    the values there are the gradients of offset and mask.

    Args:
        geometry: sizes.
        interpret: run in Pallas's interpreter.
        x: `[input pixels, channels]`.
        offset: `[output pixels, G * K * 2]`.
        weight: `[K, channels, features]`.
        mask: `[output pixels, G * K]` or None.
        gradient: of the output, `[output pixels, features]`, in the type of `x`.
    """
    geometry = dataclasses.replace(
        geometry,
        # Small enough for two programs on a multiprocessor: additions wait on memory, and another one works meanwhile.
        channel_block=min(geometry.channel_block, 32),
        # Every further block of features adds to all corners again.
        feature_block=256 if geometry.features % 256 == 0 else geometry.feature_block,
    )
    group_taps = geometry.groups * geometry.taps
    tiling = make_busy_tiling(geometry, 64, group_taps)
    outputs = [jax.ShapeDtypeStruct(x.shape, jnp.float32), jax.ShapeDtypeStruct(offset.shape, jnp.float32)]
    outputs += [] if mask is None else [jax.ShapeDtypeStruct(mask.shape, jnp.float32)]
    inputs = (x, offset, weight, mask, gradient, jnp.zeros(x.shape, jnp.float32))
    of_x, of_offset, *of_mask = pl.pallas_call(
        functools.partial(_input_kernel, geometry=geometry, tiling=tiling, interpret=interpret),
        out_shape=outputs,
        # Taps of a tile run at the same time: they add to the same rows, which then stay in cache.
        grid=(group_taps, tiling.count),
        # Atomics add to what is there: the last input, zeros, becomes the gradient of x.
        input_output_aliases={len(jax.tree.leaves(inputs)) - 1: 0},
        compiler_params=_PARAMETERS,
        interpret=interpret,
        name='deform_conv2d_input_gradients',
    )(*inputs)
    return of_x, of_offset, of_mask[0] if of_mask else None


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
    group, tap = lax.div(pl.program_id(0), geometry.taps), lax.rem(pl.program_id(0), geometry.taps)
    pixels = tile_pixels(geometry, tiling, pl.program_id(1))
    corners = find_corners(geometry, pixels, offset_ref, group, tap)
    factor = load_factor(geometry, pixels, mask_ref, group, tap)

    def add_features(feature_block: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        feature = feature_block * geometry.feature_block
        gradient = load_features(geometry, gradient_ref, pixels, feature)

        def add_channels(block: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            channel = group * geometry.channels + block * geometry.channel_block
            channels, features = pl.ds(channel, geometry.channel_block), pl.ds(feature, geometry.feature_block)
            weight = plt.load(weight_ref.at[tap, channels, features])
            of_samples = plt.dot(gradient, weight, trans_b=True)
            columns = channel + jnp.arange(of_samples.shape[1], dtype=jnp.int32)
            new_sums = []
            for corner, total in zip(corners, sums, strict=True):
                values = load_corner(geometry, x_ref, corner, channel)
                new_sums.append(total + jnp.sum(of_samples * values, axis=1))
                weights = corner.weight if factor is None else corner.weight * factor
                of_corner = of_samples * weights[:, None]
                add_rows(of_x_ref, corner.table_row, columns, of_corner, corner.inside[:, None], interpret=interpret)
            return tuple(new_sums)

        return lax.fori_loop(0, geometry.channel_blocks, add_channels, sums)

    sums = (jnp.zeros(tiling.pixels, jnp.float32),) * len(corners)
    sums = lax.fori_loop(0, geometry.feature_blocks, add_features, sums)

    slopes = ([corner.slope_y for corner in corners], [corner.slope_x for corner in corners])
    for axis, axis_slopes in enumerate(slopes):
        of_axis = sum(slope * total for slope, total in zip(axis_slopes, sums, strict=True))
        of_axis = of_axis if factor is None else of_axis * factor
        plt.store(of_offset_ref.at[pixels.table_row, 2 * pl.program_id(0) + axis], of_axis, mask=pixels.valid)
    if of_mask_ref is not None:
        of_mask = sum(corner.weight * total for corner, total in zip(corners, sums, strict=True))
        plt.store(of_mask_ref.at[pixels.table_row, pl.program_id(0)], of_mask, mask=pixels.valid)


def weight_gradient(
    geometry: Geometry,
    interpret: bool,
    x: jax.Array,
    offset: jax.Array,
    mask: jax.Array | None,
    gradient: jax.Array,
) -> jax.Array:
    """The gradient of the weights, float32 `[K, channels, features]`.

    A program owns one tap, a block of channels, a block of features and a share of the pixels, which it samples again.
    The shares' sums are added afterwards, always in the same order.

    Args:
        geometry, interpret, x, offset, mask, gradient: as in `input_gradients`.
    """
    tiling = make_tiling(geometry, 64)
    blocks = geometry.taps * geometry.groups * geometry.channel_blocks
    # About four programs for each multiprocessor of an H100.
    shares = min(pl.cdiv(528, blocks * geometry.feature_blocks), tiling.count)
    partial_sums = pl.pallas_call(
        functools.partial(_weight_kernel, geometry=geometry, tiling=tiling, tiles=pl.cdiv(tiling.count, shares)),
        out_shape=jax.ShapeDtypeStruct((shares, geometry.taps, geometry.all_channels, geometry.features), jnp.float32),
        # All taps and channels of a share run at the same time: they read the same pixels, which then are in cache.
        grid=(blocks, geometry.feature_blocks * shares),
        compiler_params=_PARAMETERS,
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

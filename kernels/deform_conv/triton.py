"""Deformable convolution for GPUs: sampling and product in one Pallas kernel, lowered through Triton.

A program owns a tile of output pixels and a block of features. For every tap it finds the four pixels around each
sample once, then for one block of channels after the other it reads them, weighs them in float32, and multiplies with
the tap's weights. Samples never reach memory, neither here nor in the backward pass (`triton_backward`), which reads
the inputs again.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from sognet_jax.kernels.deform_conv.triton_backward import input_gradients, weight_gradient
from sognet_jax.kernels.deform_conv.triton_sampling import (
    SMALLEST_BLOCK,
    Geometry,
    Tiling,
    compiler_params,
    find_corners,
    load_factor,
    make_busy_tiling,
    sample,
    tile_pixels,
)


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
    interpret: bool,
) -> jax.Array:
    """See `kernels.deform_conv.deform_conv2d`; `interpret` runs the kernel in Pallas's interpreter, on any device.

    `x` and `weight` have one type: float32, bfloat16 or float16; sums are float32. Products of float32 follow
    `jax.default_matmul_precision` as elsewhere in JAX: TF32 unless the caller asks for more ('highest').
    """
    batch, height, width, channels = x.shape
    _, out_height, out_width, _ = offset.shape
    kernel_height, kernel_width, _, features = weight.shape
    group_channels = channels // offset_groups
    channel_block = next((size for size in (64, 32) if group_channels % size == 0), SMALLEST_BLOCK)
    # One block wherever the registers allow it: every further block samples again.
    feature_block = min(max(pl.next_power_of_2(features), SMALLEST_BLOCK), 256 if x.dtype.itemsize == 2 else 128)
    geometry = Geometry(
        batch, height, width, out_height, out_width, kernel_width, kernel_height * kernel_width, offset_groups,
        pl.cdiv(group_channels, channel_block) * channel_block, pl.cdiv(features, feature_block) * feature_block,
        stride, padding, dilation, channel_block, feature_block,
    )  # fmt: skip
    weight = weight.reshape(geometry.taps, channels, features)
    bias = jnp.zeros(features, jnp.float32) if bias is None else bias
    output = _deform_conv(
        geometry,
        interpret,
        _fill_channels(geometry, x, 3),
        offset,
        _fill_features(geometry, _fill_channels(geometry, weight, 1)),
        _fill_features(geometry, bias),
        mask,
    )
    return output[..., :features]


def _fill_channels(geometry: Geometry, array: jax.Array, axis: int) -> jax.Array:
    """Adds zeros to every offset group until its channels are whole blocks."""
    missing = geometry.channels - array.shape[axis] // geometry.groups
    if not missing:
        return array
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    array = array.reshape(*before, geometry.groups, -1, *after)
    array = jnp.pad(array, [(0, missing if index == axis + 1 else 0) for index in range(array.ndim)])
    return array.reshape(*before, geometry.all_channels, *after)


def _fill_features(geometry: Geometry, array: jax.Array) -> jax.Array:
    """Adds zeros to the last axis until the features are whole blocks."""
    missing = geometry.features - array.shape[-1]
    return jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)]) if missing else array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _deform_conv(
    geometry: Geometry,
    interpret: bool,
    x: jax.Array,
    offset: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    mask: jax.Array | None,
) -> jax.Array:
    tiling = make_busy_tiling(geometry, 128, geometry.feature_blocks)  # each reads all weights
    table = pl.pallas_call(
        functools.partial(_forward_kernel, geometry=geometry, tiling=tiling),
        out_shape=jax.ShapeDtypeStruct((geometry.out_pixels, geometry.features), x.dtype),
        grid=(tiling.count, geometry.feature_blocks),
        compiler_params=compiler_params(x.dtype),
        interpret=interpret,
        name='deform_conv2d_forward',
    )(*_tables(geometry, x, offset, weight, mask), bias)
    return table.reshape(geometry.batch, geometry.out_height, geometry.out_width, geometry.features)


def _tables(
    geometry: Geometry, x: jax.Array, offset: jax.Array, weight: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Every image array with one row a pixel."""
    flat_mask = None if mask is None else mask.reshape(geometry.out_pixels, -1)
    return x.reshape(-1, geometry.all_channels), offset.reshape(geometry.out_pixels, -1), weight, flat_mask


def _forward_kernel(
    x_ref: jax.Ref,
    offset_ref: jax.Ref,
    weight_ref: jax.Ref,
    mask_ref: jax.Ref | None,
    bias_ref: jax.Ref,
    output_ref: jax.Ref,
    *,
    geometry: Geometry,
    tiling: Tiling,
) -> None:
    pixels = tile_pixels(geometry, tiling, pl.program_id(0))
    features = pl.ds(pl.program_id(1) * geometry.feature_block, geometry.feature_block)

    def add_tap(group_tap: jax.Array, total: jax.Array) -> jax.Array:
        group, tap = lax.div(group_tap, geometry.taps), lax.rem(group_tap, geometry.taps)
        corners = find_corners(geometry, pixels, offset_ref, group, tap)
        factor = load_factor(geometry, pixels, mask_ref, group, tap)

        def add_block(block: jax.Array, total: jax.Array) -> jax.Array:
            channel = group * geometry.channels + block * geometry.channel_block
            values = sample(geometry, x_ref, corners, factor, channel)
            weight = plt.load(weight_ref.at[tap, pl.ds(channel, geometry.channel_block), features])
            return total + plt.dot(values, weight)

        return lax.fori_loop(0, geometry.channel_blocks, add_block, total)

    total = jnp.zeros((tiling.pixels, geometry.feature_block), jnp.float32)
    total = lax.fori_loop(0, geometry.groups * geometry.taps, add_tap, total)
    total = total + plt.load(bias_ref.at[features]).astype(jnp.float32)[None, :]
    columns = pl.program_id(1) * geometry.feature_block + jnp.arange(geometry.feature_block, dtype=jnp.int32)
    plt.store(
        output_ref.at[pixels.table_row[:, None], columns[None, :]],
        total.astype(output_ref.dtype),
        mask=pixels.valid[:, None],
    )


def _forward(geometry: Geometry, interpret: bool, *inputs: jax.Array | None) -> tuple[jax.Array, tuple]:
    return _deform_conv(geometry, interpret, *inputs), inputs


def _backward(geometry: Geometry, interpret: bool, inputs: tuple, gradient: jax.Array) -> tuple:
    x, offset, weight, bias, mask = inputs
    gradient = gradient.astype(x.dtype).reshape(geometry.out_pixels, geometry.features)
    tables = _tables(geometry, x, offset, weight, mask)
    of_x, of_offset, of_mask = input_gradients(geometry, interpret, *tables, gradient)
    of_weight = weight_gradient(geometry, interpret, tables[0], tables[1], tables[3], gradient)
    of_bias = jnp.sum(gradient, axis=0, dtype=jnp.float32)
    return (
        of_x.reshape(x.shape).astype(x.dtype),
        of_offset.reshape(offset.shape).astype(offset.dtype),
        of_weight.astype(weight.dtype),
        of_bias.astype(bias.dtype),
        None if of_mask is None else of_mask.reshape(mask.shape).astype(mask.dtype),
    )


_deform_conv.defvjp(_forward, _backward)

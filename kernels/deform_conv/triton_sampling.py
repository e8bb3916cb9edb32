"""What the Triton kernels of deformable convolution share: sizes, tiles of output pixels, bilinear corners."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from sognet_jax.kernels.choice import current_target

SMALLEST_BLOCK = 16
"""Triton's products need at least 16 rows, columns and terms."""

TWO_STEPS = 150_000
"""Bytes of shared memory that two steps in 16 bits need, by the compiler; GPUs have 101, 167 or 232 thousand."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Sizes that are known when a kernel is compiled.

    Channels are those of one offset group, and like the features a multiple of their block: what is missing has been
    filled with zeros, so that no kernel masks them.
    """

    batch: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel_width: int
    taps: int
    groups: int
    channels: int
    features: int
    stride: int
    padding: int
    dilation: int
    channel_block: int
    feature_block: int

    @property
    def channel_blocks(self) -> int:
        """Blocks of channels in one offset group."""
        return self.channels // self.channel_block

    @property
    def feature_blocks(self) -> int:
        """Blocks of output features."""
        return self.features // self.feature_block

    @property
    def all_channels(self) -> int:
        """Channels of all offset groups."""
        return self.groups * self.channels

    @property
    def out_pixels(self) -> int:
        """Output pixels of all images."""
        return self.batch * self.out_height * self.out_width


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Rectangular tiles of output pixels: neighbours in both directions read the same input, which then is in cache."""

    rows: int
    columns: int
    tiles_down: int
    tiles_across: int
    batch: int

    @property
    def pixels(self) -> int:
        """Pixels of one tile."""
        return self.rows * self.columns

    @property
    def count(self) -> int:
        """Tiles of all images."""
        return self.batch * self.tiles_down * self.tiles_across


def make_tiling(geometry: Geometry, pixels: int, columns: int = 16) -> Tiling:
    """Tiles of `pixels` output pixels, a power of two, of at most so many columns."""
    columns = min(columns, pl.next_power_of_2(geometry.out_width))
    rows = pixels // columns
    return Tiling(
        rows, columns, pl.cdiv(geometry.out_height, rows), pl.cdiv(geometry.out_width, columns), geometry.batch
    )


def make_busy_tiling(geometry: Geometry, largest: int, programs_per_tile: int, columns: int = 16) -> Tiling:
    """The largest tiles, of at most `largest` pixels (a power of two), with which small levels of a pyramid still
    occupy the device: each starts so many programs, and there shall be two of these for each multiprocessor.
    """
    pixels, wanted = largest, 2 * current_target().multiprocessors
    while pixels > SMALLEST_BLOCK and make_tiling(geometry, pixels, columns).count * programs_per_tile < wanted:
        pixels //= 2
    return make_tiling(geometry, pixels, columns)


def compiler_params(dtype: jnp.dtype) -> plt.CompilerParams:
    """Loads of the next step run ahead where the shared memory has room for two."""
    has_room = dtype.itemsize == 2 and current_target().shared_memory > TWO_STEPS
    return plt.CompilerParams(num_warps=8, num_stages=2 if has_room else 1)


class Pixels(NamedTuple):
    """The output pixels of a tile: each field has one value a pixel, but for `image`."""

    image: jax.Array  # its index in the batch
    y: jax.Array
    x: jax.Array
    table_row: jax.Array  # row in a table of all output pixels; past its end where not valid
    valid: jax.Array  # False beyond the edge of the output


class Corner(NamedTuple):
    """One of the four input pixels around each sample of a tile: each field has one value an output pixel."""

    table_row: jax.Array  # row in a table of all input pixels; the image's first where not inside
    y: jax.Array  # row in its image; 0 where not inside, as is the column
    x: jax.Array
    inside: jax.Array
    weight: jax.Array  # bilinear weight; 0 where not inside, as are the slopes
    slope_y: jax.Array  # derivative of the weight by the sample's y
    slope_x: jax.Array


def tile_pixels(geometry: Geometry, tiling: Tiling, tile: jax.Array) -> Pixels:
    """The pixels of a tile; none of them is valid where `tile` is beyond the last one."""
    tiles_of_image = tiling.tiles_down * tiling.tiles_across
    image = lax.div(tile, tiles_of_image)
    tile_in_image = lax.rem(tile, tiles_of_image)
    pixel = jnp.arange(tiling.pixels, dtype=jnp.int32)
    y = lax.div(tile_in_image, tiling.tiles_across) * tiling.rows + lax.div(pixel, tiling.columns)
    x = lax.rem(tile_in_image, tiling.tiles_across) * tiling.columns + lax.rem(pixel, tiling.columns)
    valid = (y < geometry.out_height) & (x < geometry.out_width) & (tile < tiling.count)
    index = (image * geometry.out_height + y) * geometry.out_width + x
    # Past the end rather than on some row that counts: in the interpreter a masked store writes the old value back.
    return Pixels(image, y, x, jnp.where(valid, index, geometry.out_pixels), valid)


def find_corners(
    geometry: Geometry, pixels: Pixels, offset_ref: jax.Ref, group: jax.Array, tap: jax.Array
) -> tuple[Corner, ...]:
    """The four corners around every pixel's sample of one tap; `offset_ref` is `[out pixels, G * K * 2]`."""
    column = 2 * (group * geometry.taps + tap)
    offset_y, offset_x = (
        plt.load(offset_ref.at[pixels.table_row, column + axis], mask=pixels.valid, other=0).astype(jnp.float32)
        for axis in range(2)
    )
    tap_y, tap_x = lax.div(tap, geometry.kernel_width), lax.rem(tap, geometry.kernel_width)
    y = (pixels.y * geometry.stride - geometry.padding + tap_y * geometry.dilation).astype(jnp.float32) + offset_y
    x = (pixels.x * geometry.stride - geometry.padding + tap_x * geometry.dilation).astype(jnp.float32) + offset_x
    top, left = jnp.floor(y), jnp.floor(x)
    below, right = y - top, x - left
    corners = []
    for corner_y, weight_y, sign_y in ((top, 1 - below, -1.0), (top + 1, below, 1.0)):
        for corner_x, weight_x, sign_x in ((left, 1 - right, -1.0), (left + 1, right, 1.0)):
            inside = (corner_y >= 0) & (corner_y < geometry.height) & (corner_x >= 0) & (corner_x < geometry.width)
            inside = inside & pixels.valid
            # Only what is inside becomes an integer: far offsets would overflow, and nan has no integer.
            row, column = (jnp.where(inside, corner, 0.0).astype(jnp.int32) for corner in (corner_y, corner_x))
            index = (pixels.image * geometry.height + row) * geometry.width + column
            weights = (weight_y * weight_x, sign_y * weight_x, sign_x * weight_y)
            corners.append(Corner(index, row, column, inside, *(jnp.where(inside, weight, 0.0) for weight in weights)))
    return tuple(corners)


def load_corner(geometry: Geometry, x_ref: jax.Ref, corner: Corner, channel: jax.Array) -> jax.Array:
    """The block of channels that starts at `channel` at a corner: float32 `[pixels, channel block]`."""
    channels = channel + jnp.arange(geometry.channel_block, dtype=jnp.int32)
    values = plt.load(x_ref.at[corner.table_row[:, None], channels[None, :]], mask=corner.inside[:, None], other=0)
    return values.astype(jnp.float32)


def sample(
    geometry: Geometry, x_ref: jax.Ref, corners: tuple[Corner, ...], factor: jax.Array | None, channel: jax.Array
) -> jax.Array:
    """Bilinear samples times `factor`, in the type of `x_ref`: `[pixels, channel block]`."""
    total = jnp.zeros((), jnp.float32)
    for corner in corners:
        weight = corner.weight if factor is None else corner.weight * factor
        total = total + load_corner(geometry, x_ref, corner, channel) * weight[:, None]
    return total.astype(x_ref.dtype)


def load_factor(
    geometry: Geometry, pixels: Pixels, mask_ref: jax.Ref | None, group: jax.Array, tap: jax.Array
) -> jax.Array | None:
    """The modulation of one tap, float32 `[pixels]`; None for version 1. `mask_ref` is `[out pixels, G * K]`."""
    if mask_ref is None:
        return None
    values = plt.load(mask_ref.at[pixels.table_row, group * geometry.taps + tap], mask=pixels.valid, other=0)
    return values.astype(jnp.float32)


def load_features(geometry: Geometry, table_ref: jax.Ref, pixels: Pixels, feature: jax.Array) -> jax.Array:
    """The block of features that starts at `feature`, 0 at pixels that are not valid: `[pixels, feature block]`."""
    features = feature + jnp.arange(geometry.feature_block, dtype=jnp.int32)
    return plt.load(table_ref.at[pixels.table_row[:, None], features[None, :]], mask=pixels.valid[:, None], other=0)

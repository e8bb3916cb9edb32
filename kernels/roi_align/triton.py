"""ROI align for GPUs: a Pallas kernel, lowered through Triton.

A program pools a few cells of one box for a block of channels. It branches to the box's own level, so that the levels
stay where they are: nothing is concatenated. Every sample's four pixels are rows of neighbouring channels, read
together and summed in float32. The backward pass runs the same programs and adds to the pixels with float32 atomics:
its sums depend on the order in which they happen to run.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from sognet_jax.kernels.roi_align.geometry import Cells, clamp, level_limits, sample_positions
from sognet_jax.kernels.triton_atomics import add_rows

CELLS = 8
"""Cells of a program: 7 x 7 and 14 x 14 cells leave few of them idle."""

CHANNELS = 128
"""Channels of a program at most: with 8 cells one 16-byte load of bfloat16 for each of 128 threads."""

COMPILER_PARAMS = plt.CompilerParams(num_warps=4, num_stages=1)


class Plan(NamedTuple):
    """What is known before the arrays are."""

    shapes: tuple[tuple[int, ...], ...]
    dtype: jnp.dtype
    boxes_per_image: int
    output_size: int
    sampling_ratio: int
    interpret: bool

    @property
    def channels(self) -> int:
        """C."""
        return self.shapes[0][-1]

    @property
    def cells(self) -> int:
        """S * S."""
        return self.output_size**2

    @property
    def channel_block(self) -> int:
        """Channels of a program: a power of two."""
        return min(CHANNELS, pl.next_power_of_2(self.channels))

    @property
    def grid(self) -> tuple[int, int, int]:
        """Programs along boxes of all images, cells and channels."""
        boxes = self.shapes[0][0] * self.boxes_per_image
        return boxes, pl.cdiv(self.cells, CELLS), pl.cdiv(self.channels, self.channel_block)


class Samples(NamedTuple):
    """Where N boxes read: their level `[N]`, and n samples along rows and columns, `[N, 2, n]`.

    `weight` is 1 / samples of a cell along the axis, 0 where the sample does not count.
    """

    level: jax.Array
    position: jax.Array
    weight: jax.Array


class Block(NamedTuple):
    """What a program owns: some cells of a box and some channels, each with whether it exists."""

    box: jax.Array
    cells: jax.Array
    cell_exists: jax.Array
    channels: jax.Array
    channel_exists: jax.Array


def roi_align(
    features: Sequence[jax.Array],
    boxes: jax.Array,
    level: jax.Array,
    extent: jax.Array | None,
    cells: Cells,
    *,
    interpret: bool,
) -> jax.Array:
    """See `kernels.roi_align.roi_align`; `interpret` runs the kernel in Pallas's interpreter, on any device."""
    batch, count = level.shape
    limits = jnp.take_along_axis(level_limits(features, cells.strides, extent, batch), level[..., None], axis=1)
    y, x = sample_positions(boxes, jnp.array(cells.strides, jnp.float32)[level], cells)
    positions, counts = clamp(jnp.stack((y, x), axis=2), limits[..., None])
    samples = Samples(
        level.reshape(-1),
        jnp.where(counts, positions, 0).reshape(-1, *positions.shape[2:]),
        (counts.astype(jnp.float32) / cells.sampling_ratio).reshape(-1, *positions.shape[2:]),
    )
    shapes = tuple(x.shape for x in features)
    plan = Plan(shapes, features[0].dtype, count, cells.output_size, cells.sampling_ratio, interpret)
    pooled = _pool(plan, tuple(features), samples)
    return pooled.reshape(batch, count, cells.output_size, cells.output_size, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(plan: Plan, features: tuple[jax.Array, ...], samples: Samples) -> jax.Array:
    """`[N * S * S, C]`."""
    return pl.pallas_call(
        functools.partial(_forward_kernel, plan),
        out_shape=jax.ShapeDtypeStruct((plan.grid[0] * plan.cells, plan.channels), plan.dtype),
        grid=plan.grid,
        compiler_params=COMPILER_PARAMS,
        interpret=plan.interpret,
        name='roi_align_forward',
    )(*samples, *(x.reshape(-1, plan.channels) for x in features))


def _pool_forward(plan: Plan, features: tuple[jax.Array, ...], samples: Samples) -> tuple[jax.Array, Samples]:
    return _pool(plan, features, samples), samples


def _pool_backward(plan: Plan, samples: Samples, cotangent: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
    zeros = [jnp.zeros((height * width * batch, plan.channels)) for batch, height, width, _ in plan.shapes]
    operands = (*samples, cotangent.astype(jnp.float32))  # here: there, threads would have to change places
    gradients = pl.pallas_call(
        functools.partial(_backward_kernel, plan),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in zeros],
        grid=plan.grid,
        input_output_aliases={len(operands) + index: index for index in range(len(zeros))},
        compiler_params=COMPILER_PARAMS,
        interpret=plan.interpret,
        name='roi_align_backward',
    )(*operands, *zeros)
    return tuple(x.reshape(s).astype(plan.dtype) for x, s in zip(gradients, plan.shapes, strict=True)), None


_pool.defvjp(_pool_forward, _pool_backward)


def _forward_kernel(plan: Plan, level_ref: jax.Ref, position_ref: jax.Ref, weight_ref: jax.Ref, *refs: jax.Ref) -> None:
    *feature_refs, pooled_ref = refs
    block = _own_block(plan)
    level = plt.load(level_ref.at[block.box])

    def pool(index: int) -> None:
        def add_row(sample_row: jax.Array, total: jax.Array) -> jax.Array:
            for pixels, weights in _corners(plan, index, position_ref, weight_ref, block, sample_row):
                values = plt.load(
                    feature_refs[index].at[pixels[:, None], block.channels[None, :]],
                    mask=(weights != 0)[:, None] & block.channel_exists[None, :],
                    other=0,
                )
                total = total + values.astype(jnp.float32) * weights[:, None]
            return total

        total = jnp.zeros((CELLS, plan.channel_block), jnp.float32)
        total = lax.fori_loop(0, plan.sampling_ratio, add_row, total)
        at, exists = _pooled_rows(plan, block)
        plt.store(pooled_ref.at[at], total.astype(plan.dtype), mask=exists)

    for index in range(len(feature_refs)):
        pl.when(level == index)(functools.partial(pool, index))


def _backward_kernel(
    plan: Plan, level_ref: jax.Ref, position_ref: jax.Ref, weight_ref: jax.Ref, cotangent_ref: jax.Ref, *refs: jax.Ref
) -> None:
    gradient_refs = refs[len(plan.shapes) :]
    block = _own_block(plan)
    level = plt.load(level_ref.at[block.box])
    at, exists = _pooled_rows(plan, block)
    cotangent = plt.load(cotangent_ref.at[at], mask=exists, other=0)

    def spread(index: int) -> None:
        def add_row(sample_row: jax.Array, carry: None) -> None:
            for pixels, weights in _corners(plan, index, position_ref, weight_ref, block, sample_row):
                mask = (weights != 0)[:, None] & block.channel_exists[None, :]
                values = cotangent * weights[:, None]
                add_rows(gradient_refs[index], pixels, block.channels, values, mask, interpret=plan.interpret)

        lax.fori_loop(0, plan.sampling_ratio, add_row, None)

    for index in range(len(gradient_refs)):
        pl.when(level == index)(functools.partial(spread, index))


def _own_block(plan: Plan) -> Block:
    cells = pl.program_id(1) * CELLS + jnp.arange(CELLS, dtype=jnp.int32)
    channels = pl.program_id(2) * plan.channel_block + jnp.arange(plan.channel_block, dtype=jnp.int32)
    return Block(pl.program_id(0), cells, cells < plan.cells, channels, channels < plan.channels)


def _pooled_rows(plan: Plan, block: Block) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Where the block's values are in `[N * S * S, C]`, and which of them exist."""
    rows = block.box * plan.cells + block.cells
    return (rows[:, None], block.channels[None, :]), block.cell_exists[:, None] & block.channel_exists[None, :]


def _corners(
    plan: Plan, index: int, position_ref: jax.Ref, weight_ref: jax.Ref, block: Block, sample_row: jax.Array
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The pixels around one row of samples of each cell, one neighbour of one sample after the other.

    Yields:
        `[CELLS]` rows of the level's `[B * H * W, C]` table, and their weights: 0 where nothing is to be read.
    """
    _, height, width, _ = plan.shapes[index]
    image_start = lax.div(block.box, plan.boxes_per_image) * (height * width)

    def neighbours(axis: int, sample: jax.Array) -> tuple[tuple[jax.Array, jax.Array], ...]:
        at = (block.box, axis, sample)
        position = plt.load(position_ref.at[at], mask=block.cell_exists, other=0)
        weight = plt.load(weight_ref.at[at], mask=block.cell_exists, other=0)
        low = jnp.floor(position)
        pixel, fraction = low.astype(jnp.int32), position - low
        # Positions are clamped to the last pixel, where the fraction is 0: the next one is never read.
        return (pixel, weight * (1 - fraction)), (pixel + 1, weight * fraction)

    rows = neighbours(0, lax.div(block.cells, plan.output_size) * plan.sampling_ratio + sample_row)
    for sample_column in range(plan.sampling_ratio):
        columns = neighbours(1, lax.rem(block.cells, plan.output_size) * plan.sampling_ratio + sample_column)
        for row, row_weight in rows:
            for column, column_weight in columns:
                yield image_start + row * width + column, row_weight * column_weight

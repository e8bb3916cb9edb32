"""ROI align by windows: each box reads the rectangle of pixels it covers, tile by tile, and weights it.

For CPUs. A tile is one contiguous copy and two small matrix products, where `reference` looks every sample's pixels up
one by one; the gradient is the transposed products, added to the same tiles, and needs nothing but the boxes. The loops
run one after the other, which suits no other device; their work grows with the area of a box on its level.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from sognet_jax.kernels.roi_align.geometry import Cells, clamp, level_limits, sample_positions
from sognet_jax.ops.extent import divide_up

TILE = 16
"""Rows and columns of a tile: most boxes cover 7 to 28 pixels of their level."""

Carry = TypeVar('Carry')


class Plan(NamedTuple):
    """What is known before the arrays are."""

    shapes: tuple[tuple[int, ...], ...]
    dtype: jnp.dtype
    cells: Cells


class Geometry(NamedTuple):
    """Boxes `[B, R, 4]`, their levels `[B, R]`, rows and columns that count `[B, L, 2]`."""

    boxes: jax.Array
    level: jax.Array
    limits: jax.Array


class Axis(NamedTuple):
    """Where N boxes read along one axis of their level: n samples, `[N, n]`, in a window of pixels, `[N]`."""

    position: jax.Array
    counts: jax.Array
    first: jax.Array
    pixels: jax.Array


class Windows(NamedTuple):
    """What N boxes read.

    `order` lists the boxes by level, those of level l from `starts[l]` to `starts[l + 1]`; `image` is theirs, `[N]`.
    """

    rows: Axis
    columns: Axis
    image: jax.Array
    order: jax.Array
    starts: jax.Array


def roi_align(
    features: Sequence[jax.Array], boxes: jax.Array, level: jax.Array, extent: jax.Array | None, cells: Cells
) -> jax.Array:
    """See `kernels.roi_align.roi_align`."""
    plan = Plan(tuple(x.shape for x in features), features[0].dtype, cells)
    limits = level_limits(features, cells.strides, extent, level.shape[0])
    return _pool(plan, tuple(features), Geometry(boxes, level, limits))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(plan: Plan, features: tuple[jax.Array, ...], geometry: Geometry) -> jax.Array:
    # A loop of batched length would run over copies of its whole carry: mapped axes are looped over from outside.
    return jax.custom_batching.sequential_vmap(functools.partial(_read_windows, plan))(features, geometry)


def _pool_forward(plan: Plan, features: tuple[jax.Array, ...], geometry: Geometry) -> tuple[jax.Array, Geometry]:
    return _pool(plan, features, geometry), geometry


def _pool_backward(plan: Plan, geometry: Geometry, cotangent: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
    return jax.custom_batching.sequential_vmap(functools.partial(_add_to_windows, plan))(geometry, cotangent), None


_pool.defvjp(_pool_forward, _pool_backward)


def _read_windows(plan: Plan, features: tuple[jax.Array, ...], geometry: Geometry) -> jax.Array:
    size, channels = plan.cells.output_size, plan.shapes[0][-1]
    pooled = jnp.zeros((geometry.level.size, size, size, channels), plan.dtype)
    windows = _cover_boxes(plan, geometry)

    def pool_box(feature: jax.Array, box: jax.Array, pooled: jax.Array, visit_tiles: Callable) -> jax.Array:
        def add_tile(total: jax.Array, start: tuple, rows: jax.Array, columns: jax.Array) -> jax.Array:
            tile = lax.dynamic_slice(feature, start, (1, rows.shape[1], columns.shape[1], channels))[0]
            strip = _row_by_row(columns, tile.astype(jnp.float32))
            return total + (rows @ strip.reshape(len(strip), -1)).reshape(total.shape)

        total = visit_tiles(add_tile, jnp.zeros((size, size, channels), jnp.float32))
        return lax.dynamic_update_index_in_dim(pooled, total.astype(pooled.dtype), box, 0)

    for index, feature in enumerate(features):
        pooled = _visit_boxes_of_level(plan, windows, index, functools.partial(pool_box, feature), pooled)
    return pooled.reshape(*geometry.level.shape, size, size, channels)


def _add_to_windows(plan: Plan, geometry: Geometry, cotangent: jax.Array) -> tuple[jax.Array, ...]:
    cotangent = cotangent.reshape(-1, *cotangent.shape[2:])
    channels = cotangent.shape[-1]
    windows = _cover_boxes(plan, geometry)

    def spread_box(box: jax.Array, gradient: jax.Array, visit_tiles: Callable) -> jax.Array:
        cells = cotangent[box].astype(jnp.float32)

        def add_tile(gradient: jax.Array, start: tuple, rows: jax.Array, columns: jax.Array) -> jax.Array:
            strip = (rows.T @ cells.reshape(len(cells), -1)).reshape(-1, *cells.shape[1:])
            added = _row_by_row(columns.T, strip)[None]
            tile = lax.dynamic_slice(gradient, start, (1, rows.shape[1], columns.shape[1], channels))
            return lax.dynamic_update_slice(gradient, tile + added, start)

        return visit_tiles(add_tile, gradient)

    gradients = [
        _visit_boxes_of_level(plan, windows, index, spread_box, jnp.zeros(shape, jnp.float32))
        for index, shape in enumerate(plan.shapes)
    ]
    return tuple(x.astype(plan.dtype) for x in gradients)


def _row_by_row(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    """`[m, n]` times each `[n, C]` of `[k, n, C]` -> `[k, m, C]`.

    The matrix is repeated because XLA would turn one product with a shared matrix around: two transpositions.
    """
    return jnp.broadcast_to(matrix, (len(rows), *matrix.shape)) @ rows


def _visit_boxes_of_level(
    plan: Plan, windows: Windows, index: int, visit_box: Callable[..., Carry], carry: Carry
) -> Carry:
    """Calls `carry = visit_box(box, carry, visit_tiles)` for each box of a level, `box` its index among all.

    `visit_tiles(visit, carry)` in turn calls `carry = visit(carry, start, rows, columns)` for each tile of the box's
    window: where it begins in the level, and the weights `[S, pixels of the tile]` of its rows and columns.
    """
    lengths = plan.shapes[index][1:3]
    sides = [min(TILE, length) for length in lengths]

    def visit(position: jax.Array, carry: Carry) -> Carry:
        box = windows.order[position]
        axes = [jax.tree.map(lambda x: x[box], axis) for axis in (windows.rows, windows.columns)]
        counts = [divide_up(axis.pixels, side) for axis, side in zip(axes, sides, strict=True)]

        def visit_tiles(visit_tile: Callable[..., Carry], carry: Carry) -> Carry:
            def body(tile: jax.Array, carry: Carry) -> Carry:
                tiles = lax.div(tile, counts[1]), lax.rem(tile, counts[1])
                (row, rows), (column, columns) = (
                    _weigh_tile(plan, *x) for x in zip(axes, tiles, sides, lengths, strict=True)
                )
                return visit_tile(carry, (windows.image[box], row, column, jnp.zeros_like(row)), rows, columns)

            return lax.fori_loop(0, counts[0] * counts[1], body, carry)

        return visit_box(box, carry, visit_tiles)

    return lax.fori_loop(windows.starts[index], windows.starts[index + 1], visit, carry)


def _weigh_tile(plan: Plan, axis: Axis, tile: jax.Array, side: int, length: int) -> tuple[jax.Array, jax.Array]:
    """First pixel of a box's tile along an axis of `length` pixels, and `[S, side]` weights of its pixels."""
    begin = axis.first + tile * side
    # A tile at the border is moved inwards; the pixels it then shares with the one before are not its own.
    start = jnp.minimum(begin, length - side)
    pixels = start + jnp.arange(side)
    weights = jnp.maximum(1 - jnp.abs(axis.position[:, None] - pixels), 0) * axis.counts[:, None]
    weights = jnp.where(pixels >= begin, weights, 0)
    return start, weights.reshape(plan.cells.output_size, plan.cells.sampling_ratio, side).mean(axis=1)


def _cover_boxes(plan: Plan, geometry: Geometry) -> Windows:
    """What each box reads, and the boxes of each level."""
    level = geometry.level.reshape(-1)
    image = jnp.repeat(jnp.arange(geometry.level.shape[0], dtype=jnp.int32), geometry.level.shape[1])
    strides = jnp.array(plan.cells.strides, jnp.float32)[level]
    positions = sample_positions(geometry.boxes.reshape(-1, 4), strides, plan.cells)
    limits = geometry.limits[image, level]

    def cover(position: jax.Array, limit: jax.Array) -> Axis:
        position, counts = clamp(position, limit[:, None])
        first = jnp.floor(jnp.min(position, axis=-1, where=counts, initial=jnp.inf))
        last = jnp.ceil(jnp.max(position, axis=-1, where=counts, initial=-jnp.inf))
        pixels = jnp.where(counts.any(axis=-1), last - first + 1, 0)
        first = jnp.where(counts.any(axis=-1), first, 0)
        return Axis(position, counts, first.astype(jnp.int32), pixels.astype(jnp.int32))

    order = jnp.argsort(level)
    starts = jnp.searchsorted(level[order], jnp.arange(len(plan.shapes) + 1))
    return Windows(cover(positions[0], limits[:, 0]), cover(positions[1], limits[:, 1]), image, order, starts)

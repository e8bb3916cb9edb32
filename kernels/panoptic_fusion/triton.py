"""`panoptic_fusion` as one Pallas kernel for GPUs, lowered through Triton: a program paints a tile of 8 x 8 pixels.

The logits of all instances that touch its tile stay in registers, `[C, P]`, from pasting to arg max. Most tiles need
16 slots; the kernel runs once for each capacity, and a program leaves at once if its tile is another one's.

Pair by pair, the published order needs 2K - 3 rounds: pairs (i, j) with the same i + j share no instance, and of two
pairs that do, the one with the smaller sum is first. In a round each instance meets one partner, whose presence comes
from the tile's own slots by a product with a one-hot matrix, or is what an instance has outside its box.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from sognet_jax.kernels.panoptic_fusion.painting import Inputs, Options, OrderedInstances, order_instances, reaches
from sognet_jax.kernels.panoptic_fusion.pairs import PRESENCE_OUTSIDE
from sognet_jax.kernels.triton_products import exact_dot
from sognet_jax.ops.overlap import combine, presence

SIDE = 8
"""Of a tile, in pixels."""

CAPACITIES = (16, 32)
"""Instances in a tile; a last capacity has room for all. Products on tensor cores start at 16."""


class _Tiles(NamedTuple):
    """Which instances touch each of the T tiles, row by row."""

    num_here: jax.Array  # [T] how many
    slots: jax.Array  # [T, K] their numbers, in painting order; the others follow
    position: jax.Array  # [T, K] the slot of each instance, -1 if it is not here
    covering: jax.Array  # [T, K] what covers each instance here without being here, in sum
    elsewhere: jax.Array  # [T] the first instance that is not here; K if all are
    zero: jax.Array  # [T] its logit 0; -inf if all are here


def panoptic_fusion(inputs: Inputs, size: tuple[int, int], options: Options, *, interpret: bool) -> jax.Array:
    """See `kernels.panoptic_fusion.panoptic_fusion`; `interpret` runs the kernel without a GPU."""
    scene = order_instances(inputs, options.num_stuff)
    tiles = _list_tiles(scene, size, options)
    count = len(scene.valid)
    capacities = sorted({*CAPACITIES, max(CAPACITIES[0], pl.next_power_of_2(count))})
    grid = (pl.cdiv(size[0], SIDE), pl.cdiv(size[1], SIDE))
    semantic = jnp.moveaxis(inputs.semantic.astype(jnp.float32), -1, 0)
    operands = (*scene[:4], scene.relations, *tiles, semantic)
    per_pixel = tiles.num_here.reshape(grid).repeat(SIDE, axis=0).repeat(SIDE, axis=1)[: size[0], : size[1]]
    channels = jnp.zeros(size, jnp.int32)
    for above, capacity in zip((-1, *capacities), capacities, strict=False):
        painted = pl.pallas_call(
            functools.partial(_paint_tile, above=above, capacity=capacity, columns=grid[1], options=options),
            grid=(*grid, _parts(capacity)),
            out_shape=jax.ShapeDtypeStruct(size, jnp.int32),
            interpret=interpret,
            name='panoptic_fusion',
            compiler_params=plt.CompilerParams(num_warps=4 if capacity <= CAPACITIES[-1] else 8, num_stages=1),
        )(*operands)
        channels = jnp.where(per_pixel > above, painted, channels)
    return scene.labels[channels]


def _list_tiles(scene: OrderedInstances, size: tuple[int, int], options: Options) -> _Tiles:
    count = len(scene.valid)
    rows, columns = (jnp.arange(pl.cdiv(length, SIDE))[:, None] * SIDE for length in size)
    by_rows, by_columns = reaches(scene, rows, rows + SIDE, axis=1), reaches(scene, columns, columns + SIDE, axis=0)
    masks, crops = (y[:, None] & x for y, x in zip(by_rows, by_columns, strict=True))
    here = (scene.valid & (masks | crops)).reshape(-1, count)
    outside = scene.valid & ~here
    covering = jnp.zeros(here.shape)
    if options.outside == 'zero':
        covering = PRESENCE_OUTSIDE * jnp.matmul(outside, scene.relations.T, precision='highest')
    return _Tiles(
        jnp.sum(here, axis=1, dtype=jnp.int32),
        jnp.argsort(~here, axis=1, stable=True).astype(jnp.int32),
        jnp.where(here, jnp.cumsum(here, axis=1, dtype=jnp.int32) - 1, -1),
        covering,
        jnp.where(jnp.any(outside, axis=1), jnp.argmax(outside, axis=1), count).astype(jnp.int32),
        jnp.where(jnp.any(outside, axis=1), 0.0, -jnp.inf),
    )


def _parts(capacity: int) -> int:
    """Programs that share a tile, so that the logits of all of its instances have room in registers."""
    return max(capacity // CAPACITIES[-1], 1)


class _Refs(NamedTuple):
    """The kernel's inputs: of the scene, of the tiles (see there), and semantic logits `[S + T, h, w]`."""

    mask_logits: jax.Ref
    corners: jax.Ref
    crops: jax.Ref
    classes: jax.Ref
    relations: jax.Ref
    num_here: jax.Ref
    slots: jax.Ref
    position: jax.Ref
    covering: jax.Ref
    elsewhere: jax.Ref
    zero: jax.Ref
    semantic: jax.Ref


class _Tile(NamedTuple):
    """What a program works on: pixels and instances of its tile."""

    place: jax.Array  # scalar, among the T tiles
    y: jax.Array  # [P]
    x: jax.Array  # [P]
    numbers: jax.Array  # [C] of the instances in the slots
    used: jax.Array  # [C] bool


def _paint_tile(*refs: jax.Ref, above: int, capacity: int, columns: int, options: Options) -> None:
    """Writes the channel that wins each pixel, if `above` < number of instances <= `capacity`."""
    refs, out = _Refs(*refs[:-1]), refs[-1]
    row, column, part = pl.program_id(0), pl.program_id(1), pl.program_id(2)
    index = row * columns + column
    num_here = refs.num_here[index]

    @pl.when((num_here > above) & (num_here <= capacity))
    def paint() -> None:
        pixels = SIDE * SIDE // _parts(capacity)
        pixel, slot = part * pixels + jnp.arange(pixels), jnp.arange(capacity)
        y, x = row * SIDE + pixel // SIDE, column * SIDE + pixel % SIDE
        used = slot < num_here
        numbers = plt.load(refs.slots.at[index, jnp.minimum(slot, refs.slots.shape[1] - 1)], mask=used, other=0)
        tile = _Tile(index, y, x, numbers, used)
        channel = _best_channel(refs, tile, *_fuse_instances(refs, tile, out.shape, options), out.shape, options)
        plt.store(out.at[y, x], channel, mask=(y < out.shape[0]) & (x < out.shape[1]))


def _fuse_instances(refs: _Refs, tile: _Tile, size: tuple[int, int], options: Options) -> tuple[jax.Array, jax.Array]:
    """X and Z of the tile's instances, `[C, P]`."""
    pasted, inside = _paste(refs, tile)
    resolve = _resolve_jointly if options.resolve == 'joint' else _resolve_pairs
    resolved = resolve(refs, tile, pasted, inside if options.outside == 'absent' else None)
    x1, y1, x2, y2 = (_of_instance(refs.crops, tile, k) for k in range(4))
    in_crop = (tile.y >= y1) & (tile.y <= y2) & (tile.x >= x1) & (tile.x <= x2)
    classes = plt.load(refs.classes.at[tile.numbers], mask=tile.used, other=0)
    own = jnp.where(in_crop, _enlarge(refs, options.num_stuff + classes[:, None], tile, size), 0.0)
    return own, combine(own, resolved, head=options.head, balance=options.balance)


def _of_instance(ref: jax.Ref, tile: _Tile, column: int) -> jax.Array:
    """A column of a `[K, ...]` table for the tile's instances, `[C, 1]`."""
    return plt.load(ref.at[tile.numbers, column], mask=tile.used, other=0)[:, None]


def _taps(source: jax.Array, samples: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The two samples around a position, clamped to the first and last one, and the share of the second."""
    source = jnp.minimum(jnp.maximum(source, 0.0), samples - 1.0)
    low = source.astype(jnp.int32)
    return low, jnp.minimum(low + 1, samples - 1), source - low.astype(jnp.float32)


def _paste(refs: _Refs, tile: _Tile) -> tuple[jax.Array, jax.Array]:
    """Logits of the tile's instances pasted at its pixels, `[C, P]`, and bool where they are inside their boxes."""
    samples = refs.mask_logits.shape[1]
    x1, y1, x2, y2 = (_of_instance(refs.corners, tile, k) for k in range(4))

    def taps(pixel: jax.Array, first: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        offset = (pixel - first).astype(jnp.float32) + 0.5
        return _taps(offset * samples / (last - first + 1).astype(jnp.float32) - 0.5, samples)

    inside = tile.used[:, None] & (tile.y >= y1) & (tile.y <= y2) & (tile.x >= x1) & (tile.x <= x2)

    def load(rows: jax.Array, columns: jax.Array) -> jax.Array:
        return plt.load(refs.mask_logits.at[tile.numbers[:, None], rows, columns], mask=inside, other=0.0)

    return _interpolate(load, taps(tile.y, y1, y2), taps(tile.x, x1, x2)), inside


def _enlarge(refs: _Refs, channels: jax.Array, tile: _Tile, size: tuple[int, int]) -> jax.Array:
    """Bilinear semantic logits of channels at the tile's pixels; of the shape that `channels` has with `[P]`."""
    stride, limit = size[0] // refs.semantic.shape[1], refs.semantic.shape

    def load(rows: jax.Array, columns: jax.Array) -> jax.Array:
        shape = jnp.broadcast_shapes(jnp.shape(channels), rows.shape)
        return plt.load(refs.semantic.at[tuple(jnp.broadcast_to(x, shape) for x in (channels, rows, columns))])

    rows = _taps((tile.y.astype(jnp.float32) + 0.5) / stride - 0.5, limit[1])
    return _interpolate(load, rows, _taps((tile.x.astype(jnp.float32) + 0.5) / stride - 0.5, limit[2]))


def _interpolate(
    load: Callable[[jax.Array, jax.Array], jax.Array], rows: tuple[jax.Array, ...], columns: tuple[jax.Array, ...]
) -> jax.Array:
    """Bilinear values from the `_taps` of rows and columns."""
    (top, bottom, down), (left, right, along) = rows, columns
    upper = load(top, left) * (1 - along) + load(top, right) * along
    lower = load(bottom, left) * (1 - along) + load(bottom, right) * along
    return upper * (1 - down) + lower * down


def _resolve_jointly(refs: _Refs, tile: _Tile, logits: jax.Array, inside: jax.Array | None) -> jax.Array:
    """Eq. (8)."""
    present = presence(logits, inside)
    both = tile.used[:, None] & tile.used[None, :]
    relations = plt.load(refs.relations.at[tile.numbers[:, None], tile.numbers[None, :]], mask=both, other=0.0)
    outside = plt.load(refs.covering.at[tile.place, tile.numbers], mask=tile.used, other=0.0)
    covering = exact_dot(relations, present) + outside[:, None]
    return logits - logits * present * covering


def _resolve_pairs(refs: _Refs, tile: _Tile, logits: jax.Array, inside: jax.Array | None) -> jax.Array:
    """Pair by pair, in rounds of pairs with the same sum."""
    count = refs.relations.shape[0]
    slot = jnp.arange(len(tile.numbers))

    def meet(total: jax.Array, logits: jax.Array) -> jax.Array:
        partner = total - tile.numbers
        meets = tile.used & (partner >= 0) & (partner < count) & (partner != tile.numbers)
        partner = jnp.where(meets, partner, 0)
        strength = plt.load(refs.relations.at[tile.numbers, partner], mask=meets, other=0.0)
        position = plt.load(refs.position.at[tile.place, partner], mask=meets, other=-1)
        present = presence(logits, inside)
        is_partner = (position[:, None] == slot[None, :]).astype(jnp.bfloat16)
        of_partner = exact_dot(is_partner, present)
        if inside is None:
            of_partner = jnp.where((position < 0)[:, None], PRESENCE_OUTSIDE, of_partner)
        return logits - logits * present * of_partner * strength[:, None]

    return jax.lax.fori_loop(1, max(2 * count - 2, 1), meet, logits)


def _best_channel(
    refs: _Refs, tile: _Tile, own: jax.Array, logits: jax.Array, size: tuple[int, int], options: Options
) -> jax.Array:
    """Arg max over stuff, instances and void, `[P]` int32; of equal logits the first one wins."""
    count, num_channels = refs.relations.shape[0], refs.semantic.shape[0]

    def compare(channel: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value = _enlarge(refs, channel, tile, size)
        return jnp.maximum(value, best[0]), jnp.where(value > best[0], channel, best[1])

    lowest = jnp.full(tile.y.shape, -jnp.inf, jnp.float32), jnp.zeros(tile.y.shape, jnp.int32)
    best, channel = jax.lax.fori_loop(0, options.num_stuff, compare, lowest)

    # Z is 0 wherever an instance is not: the first such one may win with that.
    elsewhere, zero = refs.elsewhere[tile.place], refs.zero[tile.place]
    used = tile.used[:, None]
    logits = jnp.where(used, logits, -jnp.inf)
    highest = jnp.maximum(jnp.max(logits, axis=0), zero)
    winner = jnp.min(jnp.where(used & (logits == highest[None, :]), tile.numbers[:, None], count), axis=0)
    winner = jnp.where(highest == zero, jnp.minimum(winner, elsewhere), winner)
    channel = jnp.where(highest > best, options.num_stuff + winner, channel)
    if not options.void_channel:
        return channel
    things, _ = jax.lax.fori_loop(options.num_stuff, num_channels, compare, lowest)
    seen = jnp.maximum(jnp.max(jnp.where(used, own, -jnp.inf), axis=0), zero)
    void = things - jnp.where(seen > -jnp.inf, seen, 0.0)
    return jnp.where(void > jnp.maximum(best, highest), options.num_stuff + count, channel)

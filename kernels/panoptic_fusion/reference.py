"""The meaning of `panoptic_fusion`, in plain XLA, by tiles: only the instances that touch a tile are computed in it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sognet_jax.kernels.panoptic_fusion.painting import Inputs, Options, OrderedInstances, order_instances, reaches
from sognet_jax.kernels.panoptic_fusion.pairs import PRESENCE_OUTSIDE, Coverings, list_coverings, resolve_pairs
from sognet_jax.ops.overlap import combine, presence
from sognet_jax.ops.resize import interpolation_matrix
from sognet_jax.ops.tiles import on_tiles, paste_in_tile, with_room


def panoptic_fusion(inputs: Inputs, size: tuple[int, int], options: Options) -> jax.Array:
    """See `kernels.panoptic_fusion.panoptic_fusion`."""

    # One image after the other under vmap: memory stays that of one image, and branches stay branches.
    @jax.custom_batching.sequential_vmap
    def compute(inputs: Inputs) -> jax.Array:
        paint = functools.partial(_paint, size=size, options=options)
        return on_tiles(paint, order_instances(inputs, options.num_stuff), inputs.semantic.astype(jnp.float32))

    return compute(inputs)


def _paint(
    scene: OrderedInstances, semantic: jax.Array, *, tile: tuple[int, int], size: tuple[int, int], options: Options
) -> jax.Array:
    """The panoptic ids `[H, W]`, painted tile by tile."""
    stride = size[0] // semantic.shape[0]
    low_tile = (-(-tile[0] // stride), -(-tile[1] // stride))
    low_tile = (min(low_tile[0], semantic.shape[0]), min(low_tile[1], semantic.shape[1]))
    grid = (-(-semantic.shape[0] // low_tile[0]), -(-semantic.shape[1] // low_tile[1]))
    paint = functools.partial(
        _paint_tile, scene, list_coverings(scene.relations), _extend(semantic, low_tile, grid), low_tile, stride,
        options,
    )  # fmt: skip
    rows, columns = jnp.indices(grid).reshape(2, -1)
    channels = jax.lax.map(paint, (rows, columns)).reshape(*grid, low_tile[0] * stride, low_tile[1] * stride)
    image = jnp.swapaxes(channels, 1, 2).reshape(grid[0] * channels.shape[2], grid[1] * channels.shape[3])
    return scene.labels[image[: size[0], : size[1]]]


def _extend(semantic: jax.Array, low_tile: tuple[int, int], grid: tuple[int, int]) -> jax.Array:
    """`[h, w, C]` -> `[C, 1 + h' + 1, 1 + w' + 1]`: full tiles with one more sample on every side, the border."""
    padding = [(1, grid[axis] * low_tile[axis] - semantic.shape[axis] + 1) for axis in (0, 1)]
    return jnp.moveaxis(jnp.pad(semantic, [*padding, (0, 0)], mode='edge'), -1, 0)


def _enlargement(low: int, stride: int) -> jax.Array:
    """Interpolation weights of a tile along one axis, `[low * stride, low + 2]`, the same as on the whole image."""
    return jnp.array(interpolation_matrix((low + 2) * stride, low + 2)[stride:-stride])


def _paint_tile(
    scene: OrderedInstances,
    coverings: Coverings,
    semantic: jax.Array,
    low_tile: tuple[int, int],
    stride: int,
    options: Options,
    index: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """The channel that wins each pixel of a tile, `[h, w]` int32: stuff classes, instances in painting order, void."""
    row, column = index
    count = len(scene.valid)
    tile = (low_tile[0] * stride, low_tile[1] * stride)
    first = jnp.array([column * tile[1], row * tile[0]] * 2)
    scene = scene._replace(corners=scene.corners - first, crops=scene.crops - first)
    window = (len(semantic), low_tile[0] + 2, low_tile[1] + 2)
    low = jax.lax.dynamic_slice(semantic, (0, row * low_tile[0], column * low_tile[1]), window)
    rows, columns = _enlargement(low_tile[0], stride), _enlargement(low_tile[1], stride)

    def enlarge(low: jax.Array) -> jax.Array:
        low = jnp.einsum('yi,cij->ycj', rows, low, precision='highest')
        return jnp.einsum('ycj,xj->ycx', low, columns, precision='highest')

    best, channel = _first_best(enlarge(low[: options.num_stuff]), jnp.arange(options.num_stuff), axis=1)
    by_columns, by_rows = reaches(scene, 0, tile[1], axis=0), reaches(scene, 0, tile[0], axis=1)
    is_here = scene.valid & ((by_rows[0] & by_columns[0]) | (by_rows[1] & by_columns[1]))
    num_here = jnp.sum(is_here)

    # Z is 0 wherever an instance is not: the first such one may win with that.
    is_elsewhere = scene.valid & ~is_here
    any_elsewhere, first_elsewhere = jnp.any(is_elsewhere), jnp.argmax(is_elsewhere)
    zero = jnp.where(any_elsewhere, 0.0, -jnp.inf)

    def fuse(capacity: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        if not capacity:
            return jnp.full(tile, zero), jnp.full(tile, first_elsewhere), jnp.full(tile, zero)
        slots = jnp.argsort(~is_here, stable=True)[:capacity]
        used = (jnp.arange(capacity) < num_here)[:, None, None]
        cropped, logits = _fuse_instances(
            scene, coverings, slots, num_here, is_here, low[options.num_stuff :], enlarge, tile, options
        )
        logits, winner = _first_best(jnp.where(used, logits, -jnp.inf), slots, axis=0)
        tie = jnp.where(logits == zero, jnp.minimum(winner, first_elsewhere), first_elsewhere)
        seen = jnp.max(jnp.where(used, cropped, -jnp.inf), axis=0)
        return jnp.maximum(logits, zero), jnp.where(logits > zero, winner, tie), jnp.maximum(seen, zero)

    logits, winner, seen = with_room(fuse, is_here)
    channel = jnp.where(logits > best, options.num_stuff + winner, channel)
    if options.void_channel:
        things = jnp.max(enlarge(low[options.num_stuff :]), axis=1)
        void = things - jnp.where(jnp.isfinite(seen), seen, 0.0)
        channel = jnp.where(void > jnp.maximum(best, logits), options.num_stuff + count, channel)
    return channel


def _first_best(values: jax.Array, numbers: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The highest value along an axis and the lowest number that has it."""
    # Not the numbers where a value equals the highest: XLA may compute values twice, rounded otherwise, and none would.
    return jnp.max(values, axis=axis), numbers[jnp.argmax(values, axis=axis)]


def _fuse_instances(
    scene: OrderedInstances,
    coverings: Coverings,
    slots: jax.Array,
    num_here: jax.Array,
    is_here: jax.Array,
    things: jax.Array,
    enlarge: Callable[[jax.Array], jax.Array],
    tile: tuple[int, int],
    options: Options,
) -> tuple[jax.Array, jax.Array]:
    """X and Z of the instances `slots` in a tile, `[C, h, w]` each; the scene's pixels are counted from the tile."""
    pasted, (rows, columns) = paste_in_tile(scene.mask_logits[slots], scene.corners[slots], tile)
    pasted = pasted.reshape(len(slots), -1)
    inside = None
    if options.outside == 'absent':
        inside = (rows[:, :, None] & columns[:, None]).reshape(len(slots), -1)
    if options.resolve == 'joint':
        resolved = _resolve_joint(pasted, inside, slots, num_here, is_here, scene.relations)
    else:
        resolved = resolve_pairs(pasted, inside, slots, num_here, is_here, scene.relations, coverings)
    resolved = resolved.reshape(-1, *tile)

    crops = scene.crops[slots]
    y, x = jnp.arange(tile[0]), jnp.arange(tile[1])
    in_crop = ((y >= crops[:, 1:2]) & (y <= crops[:, 3:]))[:, :, None]
    in_crop &= ((x >= crops[:, :1]) & (x <= crops[:, 2:3]))[:, None]
    own = jnp.swapaxes(enlarge(things[scene.classes[slots]]), 0, 1)
    own = jnp.where(in_crop, own, 0.0)
    return own, combine(own, resolved, head=options.head, balance=options.balance)


def _resolve_joint(
    logits: jax.Array,
    inside: jax.Array | None,
    slots: jax.Array,
    num_here: jax.Array,
    is_here: jax.Array,
    relations: jax.Array,
) -> jax.Array:
    """`resolve_overlaps` of all instances for those that are here; arguments as those of `resolve_pairs`."""
    present = presence(logits, inside)
    used = jnp.arange(len(slots)) < num_here
    covering = jnp.where(used, relations[slots][:, slots], 0.0) @ present
    if inside is None:
        covering += PRESENCE_OUTSIDE * jnp.sum(jnp.where(is_here, 0.0, relations[slots]), axis=1, keepdims=True)
    return logits - logits * present * covering

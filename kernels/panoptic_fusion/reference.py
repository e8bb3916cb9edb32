"""The meaning of `panoptic_fusion`, in plain XLA, by tiles: only the instances that touch a tile are computed in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernels.panoptic_fusion.pairs import PRESENCE_OUTSIDE, Coverings, list_coverings, resolve_pairs
from sognet_jax.ops.boxes import inclusive_corners
from sognet_jax.ops.masks import paste_weights
from sognet_jax.ops.overlap import presence
from sognet_jax.ops.resize import interpolation_matrix

VOID = -1

TILE = (32, 64)
"""Height and width in pixels, rounded up to multiples of the stride: the logits of ten instances fit a CPU's cache."""

CAPACITIES = (0, 4, 8, 16, 32)
"""Tiles are computed with room for so many instances, or for all."""


class Options(NamedTuple):
    """How the panoptic map is made; see `kernels.panoptic_fusion.panoptic_fusion`."""

    num_stuff: int
    head: int
    balance: float
    resolve: str
    outside: str
    void_channel: bool


class _Scene(NamedTuple):
    """The instances in painting order, and the semantic logits."""

    mask_logits: jax.Array  # [K, M, M]
    corners: jax.Array  # [K, 4] first and last pixel of the pasted mask
    crops: jax.Array  # [K, 4] first and last pixel of its semantic logits
    classes: jax.Array  # [K]
    valid: jax.Array  # [K]
    relations: jax.Array  # [K, K]
    coverings: Coverings
    semantic: jax.Array  # [C, h + 2, w + 2] and what fills the last tiles: the border repeated


def panoptic_fusion_xla(
    mask_logits: jax.Array,
    boxes: jax.Array,
    classes: jax.Array,
    valid: jax.Array,
    relations: jax.Array,
    semantic: jax.Array,
    size: tuple[int, int],
    *,
    partners: jax.Array,
    options: Options,
) -> jax.Array:
    """See `kernels.panoptic_fusion.panoptic_fusion`."""
    stride = size[0] // semantic.shape[-3]
    low_tile = (-(-TILE[0] // stride), -(-TILE[1] // stride))
    grid = (-(-semantic.shape[-3] // low_tile[0]), -(-semantic.shape[-2] // low_tile[1]))
    tile = (low_tile[0] * stride, low_tile[1] * stride)

    # One image after the other under vmap: memory stays that of one image, and branches stay branches.
    @jax.custom_batching.sequential_vmap
    def compute(
        mask_logits: jax.Array,
        boxes: jax.Array,
        classes: jax.Array,
        valid: jax.Array,
        relations: jax.Array,
        semantic: jax.Array,
        partners: jax.Array,
    ) -> jax.Array:
        order = jnp.argsort(-partners, stable=True)
        relations = relations[order][:, order]
        corners = inclusive_corners(boxes[order])
        scene = _Scene(
            mask_logits[order], corners.astype(jnp.int32),
            jnp.concatenate([corners[:, :2].astype(jnp.int32), jnp.round(corners[:, 2:]).astype(jnp.int32)], axis=1),
            classes[order], valid[order], relations, list_coverings(relations),
            _extend(semantic, low_tile, grid),
        )  # fmt: skip
        channels = jax.lax.map(
            functools.partial(_paint_tile, scene, low_tile, stride, options),
            (jnp.repeat(jnp.arange(grid[0]), grid[1]), jnp.tile(jnp.arange(grid[1]), grid[0])),
        )
        labels = jnp.concatenate([jnp.arange(options.num_stuff), options.num_stuff + order, jnp.array([VOID])])
        image = jnp.swapaxes(channels.reshape(*grid, *tile), 1, 2).reshape(grid[0] * tile[0], grid[1] * tile[1])
        return labels[image[: size[0], : size[1]]].astype(jnp.int32)

    return compute(
        mask_logits.astype(jnp.float32), boxes, classes, valid, relations, semantic.astype(jnp.float32), partners
    )


def _extend(semantic: jax.Array, low_tile: tuple[int, int], grid: tuple[int, int]) -> jax.Array:
    """`[h, w, C]` -> `[C, 1 + h' + 1, 1 + w' + 1]`: full tiles with one more sample on every side."""
    padding = [(1, grid[axis] * low_tile[axis] - semantic.shape[axis] + 1) for axis in (0, 1)]
    return jnp.moveaxis(jnp.pad(semantic, [*padding, (0, 0)], mode='edge'), -1, 0)


def _enlargement(low: int, stride: int) -> jax.Array:
    """Interpolation weights of a tile along one axis, `[low * stride, low + 2]`, the same as on the whole image."""
    return jnp.array(interpolation_matrix((low + 2) * stride, low + 2)[stride:-stride])


def _paint_tile(
    scene: _Scene, low_tile: tuple[int, int], stride: int, options: Options, index: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """The channel that wins each pixel of a tile, `[h, w]` int32: stuff classes, instances in painting order, void."""
    row, column = index
    count = len(scene.valid)
    tile = (low_tile[0] * stride, low_tile[1] * stride)
    first = jnp.array([column * tile[1], row * tile[0]] * 2)
    scene = scene._replace(corners=scene.corners - first, crops=scene.crops - first)
    window = (len(scene.semantic), low_tile[0] + 2, low_tile[1] + 2)
    low = jax.lax.dynamic_slice(scene.semantic, (0, row * low_tile[0], column * low_tile[1]), window)
    rows, columns = _enlargement(low_tile[0], stride), _enlargement(low_tile[1], stride)

    def enlarge(low: jax.Array) -> jax.Array:
        low = jnp.einsum('yi,cij->ycj', rows, low, precision='highest')
        return jnp.einsum('ycj,xj->ycx', low, columns, precision='highest')

    best, channel = _first_best(enlarge(low[: options.num_stuff]), jnp.arange(options.num_stuff), axis=1)
    is_here = scene.valid & (_touches(scene.corners, tile) | _touches(scene.crops, tile))
    num_here = jnp.sum(is_here)

    # Z is 0 wherever an instance is not: the first such one may win with that.
    is_elsewhere = scene.valid & ~is_here
    any_elsewhere, first_elsewhere = jnp.any(is_elsewhere), jnp.argmax(is_elsewhere)
    zero = jnp.where(any_elsewhere, 0.0, -jnp.inf)

    capacities = sorted({min(capacity, count) for capacity in (*CAPACITIES, count)})

    def fuse(capacity: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        if not capacity:
            return jnp.full(tile, zero), jnp.full(tile, first_elsewhere), jnp.full(tile, zero)
        slots = jnp.argsort(~is_here, stable=True)[:capacity]
        used = (jnp.arange(capacity) < num_here)[:, None, None]
        cropped, logits = _fuse_instances(scene, slots, num_here, is_here, low, enlarge, tile, options)
        logits, winner = _first_best(jnp.where(used, logits, -jnp.inf), slots, axis=0)
        tie = jnp.where(logits == zero, jnp.minimum(winner, first_elsewhere), first_elsewhere)
        seen = jnp.max(jnp.where(used, cropped, -jnp.inf), axis=0)
        return jnp.maximum(logits, zero), jnp.where(logits > zero, winner, tie), jnp.maximum(seen, zero)

    branch = jnp.searchsorted(jnp.array(capacities), num_here)
    logits, winner, seen = jax.lax.switch(branch, [functools.partial(fuse, capacity) for capacity in capacities])
    channel = jnp.where(logits > best, options.num_stuff + winner, channel)
    if options.void_channel:
        things = jnp.max(enlarge(low[options.num_stuff :]), axis=1)
        void = things - jnp.where(jnp.isfinite(seen), seen, 0.0)
        channel = jnp.where(void > jnp.maximum(best, logits), options.num_stuff + count, channel)
    return channel


def _first_best(values: jax.Array, numbers: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The highest value along an axis and the lowest number that has it: two reductions that vectorize."""
    best = jnp.max(values, axis=axis, keepdims=True, initial=-jnp.inf)
    numbers = jnp.expand_dims(numbers, [i for i in range(values.ndim) if i != axis])
    number = jnp.min(jnp.where(values == best, numbers, jnp.iinfo(numbers.dtype).max), axis=axis)
    return best.squeeze(axis), number


def _touches(spans: jax.Array, tile: tuple[int, int]) -> jax.Array:
    """Which of the `[K, 4]` inclusive first and last pixels, seen from a tile, touch it."""
    x1, y1, x2, y2 = jnp.moveaxis(spans, -1, 0)
    # A mask is pasted over one pixel at least.
    x2, y2 = jnp.maximum(x1, x2), jnp.maximum(y1, y2)
    return (x1 < tile[1]) & (x2 >= 0) & (y1 < tile[0]) & (y2 >= 0)


def _fuse_instances(
    scene: _Scene,
    slots: jax.Array,
    num_here: jax.Array,
    is_here: jax.Array,
    low: jax.Array,
    enlarge: Callable[[jax.Array], jax.Array],
    tile: tuple[int, int],
    options: Options,
) -> tuple[jax.Array, jax.Array]:
    """X and Z of the instances `slots` in a tile, `[C, h, w]` each; the scene's pixels are counted from the tile."""
    corners, crops = scene.corners[slots], scene.crops[slots]
    rows = paste_weights(corners[:, 1], corners[:, 3], tile[0], scene.mask_logits.shape[1])
    columns = paste_weights(corners[:, 0], corners[:, 2], tile[1], scene.mask_logits.shape[2])
    pasted = jnp.einsum('cyi,cij->cyj', rows, scene.mask_logits[slots], precision='highest')
    pasted = jnp.einsum('cyj,cxj->cyx', pasted, columns, precision='highest').reshape(len(slots), -1)
    inside = None
    if options.outside == 'absent':
        inside = jnp.any(rows > 0, axis=-1)[:, :, None] & jnp.any(columns > 0, axis=-1)[:, None]
        inside = inside.reshape(len(slots), -1)
    if options.resolve == 'joint':
        resolved = _resolve_joint(pasted, inside, slots, num_here, is_here, scene.relations)
    else:
        resolved = resolve_pairs(pasted, inside, slots, num_here, is_here, scene.relations, scene.coverings)
    resolved = resolved.reshape(-1, *tile)

    y, x = jnp.arange(tile[0]), jnp.arange(tile[1])
    in_crop = ((y >= crops[:, 1:2]) & (y <= crops[:, 3:]))[:, :, None]
    in_crop &= ((x >= crops[:, :1]) & (x <= crops[:, 2:3]))[:, None]
    own = jnp.swapaxes(enlarge(low[options.num_stuff + scene.classes[slots]]), 0, 1)
    own = jnp.where(in_crop, own, 0.0)
    if options.head == 1:
        return own, own + resolved
    return own, options.balance * own * jax.nn.sigmoid(resolved) + resolved


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

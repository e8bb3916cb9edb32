"""The meaning of `panoptic_fusion`, in plain XLA, by bands of rows: `[H, W, K]` logits never exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax.ops.bands import band_height, paste_matrices, split_rows
from sognet_jax.ops.masks import semantic_crop
from sognet_jax.ops.overlap import resolve_overlaps, resolve_overlaps_sequential
from sognet_jax.ops.resize import resize_bilinear
from sognet_jax.ops.void import void_logits

VOID = -1


class _Rows(NamedTuple):
    """What differs from row to row, `[H, ...]` or `[bands, band, ...]`."""

    paste: jax.Array  # [..., K, M] weights
    crop: jax.Array  # [..., K] bool: inside the box for the semantic logits


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
    num_stuff: int,
    head: int,
    balance: float,
    resolve: str,
    outside: str,
    void_channel: bool,
) -> jax.Array:
    """See `kernels.panoptic_fusion.panoptic_fusion`."""

    def finish(semantic: jax.Array, resolved: jax.Array) -> jax.Array:
        return semantic + resolved if head == 1 else balance * semantic * jax.nn.sigmoid(resolved) + resolved

    resolver = resolve_overlaps if resolve == 'joint' else resolve_overlaps_sequential

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
        own_class = jnp.moveaxis(semantic[..., num_stuff:], -1, 0)[classes[order]]
        stuff, things = jnp.split(jnp.moveaxis(semantic, -1, 0), [num_stuff])
        channels = _paint(
            mask_logits[order], boxes[order], valid[order], relations[order][:, order],
            [stuff, own_class, things if void_channel else things[:0]], size, resolver, finish, outside == 'absent',
        )  # fmt: skip
        labels = jnp.concatenate([jnp.arange(num_stuff), num_stuff + order, jnp.array([VOID])])
        return labels[channels].astype(jnp.int32)

    return compute(
        mask_logits.astype(jnp.float32), boxes, classes, valid, relations, semantic.astype(jnp.float32), partners
    )


def _paint(
    mask_logits: jax.Array,
    boxes: jax.Array,
    valid: jax.Array,
    relations: jax.Array,
    semantic: list[jax.Array],
    size: tuple[int, int],
    resolver: Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array],
    finish: Callable[[jax.Array, jax.Array], jax.Array],
    absent_outside: bool,
) -> jax.Array:
    """The channel that wins each pixel, `[H, W]` int32.

    Args:
        mask_logits, boxes, valid, relations: as in `panoptic_fusion`, in painting order.
        semantic: logits of the stuff classes `[S, h, w]`, of each instance's class `[K, h, w]`, and of all things
            `[T, h, w]`, or of none, if void has no channel.
        size: H, W.
        resolver: A, O, inside -> A'.
        finish: X, A' -> Z.
        absent_outside: `outside='absent'`.
    """
    count, mask_size = mask_logits.shape[:2]
    num_stuff, num_things = len(semantic[0]), len(semantic[2])
    semantic = jnp.concatenate(semantic)
    stride = size[0] // semantic.shape[1]
    rows, columns = paste_matrices(boxes, size, mask_size)
    stretched = jnp.einsum('kij,kxj->kix', mask_logits, columns, precision='highest')
    inside_columns = jnp.any(columns > 0, axis=-1)
    crop_rows, crop_columns = _crop_intervals(boxes, size)
    low_band = band_height(semantic.shape[1], stride * size[1] * (len(semantic) + 3 * count))

    def paint(band: tuple[_Rows, jax.Array]) -> jax.Array:
        rows, low = band
        stuff, own_class, things = jnp.split(_enlarge(low, stride), [num_stuff, num_stuff + count])
        pasted = jnp.einsum('ykj,kjx->kyx', rows.paste, stretched, precision='highest')
        inside = jnp.any(rows.paste > 0, axis=-1).T[:, :, None] & inside_columns[:, None]
        resolved = resolver(pasted, relations, inside if absent_outside else None)
        cropped = jnp.where(rows.crop.T[:, :, None] & crop_columns[:, None], own_class, 0.0)
        logits = jnp.where(valid[:, None, None], finish(cropped, resolved), -jnp.inf)
        void = void_logits(things, cropped, valid)[None] if num_things else things
        return jnp.argmax(jnp.concatenate([stuff, logits, void]), axis=0).astype(jnp.int32)

    by_row = _Rows(jnp.swapaxes(rows, 0, 1), crop_rows.T)
    by_row = jax.tree.map(lambda x: split_rows(x, low_band * stride), by_row)
    bands = jax.lax.map(paint, (by_row, _low_bands(semantic, low_band)))
    return bands.reshape(-1, size[1])[: size[0]]


def _crop_intervals(boxes: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """`semantic_crop` at full resolution as its two factors: rows `[K, H]` and columns `[K, W]` bool."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    zero, one = jnp.zeros_like(x1), jnp.ones_like(x1)
    rows = semantic_crop(jnp.stack([zero, y1, one, y2], axis=-1), (size[0], 1), 1)[:, :, 0]
    return rows, semantic_crop(jnp.stack([x1, zero, x2, one], axis=-1), (1, size[1]), 1)[:, 0, :]


def _low_bands(semantic: jax.Array, band: int) -> jax.Array:
    """`[C, h, w]` -> `[bands, C, band + 2, w]`: bands with one more row on either side, the border repeated."""
    num_bands = -(-semantic.shape[1] // band)
    below = num_bands * band - semantic.shape[1] + 1
    padded = jnp.pad(semantic, ((0, 0), (1, below), (0, 0)), mode='edge')
    rows = jnp.arange(num_bands)[:, None] * band + jnp.arange(band + 2)
    return jnp.moveaxis(padded[:, rows], 1, 0)


def _enlarge(low: jax.Array, stride: int) -> jax.Array:
    """`[C, band + 2, w]` -> `[C, band * stride, w * stride]`: bilinear, the same values as on the whole image."""
    _, height, width = low.shape
    enlarged = resize_bilinear(jnp.moveaxis(low, 0, -1), (height * stride, width * stride))
    return jnp.moveaxis(enlarged[stride:-stride], -1, 0)

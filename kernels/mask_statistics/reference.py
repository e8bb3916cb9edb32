"""The meaning of `mask_statistics`, in plain XLA, without ever holding `[K, H, W]`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sognet_jax.ops.bands import band_height, paste_matrices, split_rows

_BITS = 32


def mask_statistics_xla(
    mask_logits: jax.Array,
    boxes: jax.Array,
    classes: jax.Array,
    valid: jax.Array,
    image_size: jax.Array,
    size: tuple[int, int],
    *,
    num_classes: int,
    threshold: float,
) -> tuple[jax.Array, jax.Array]:
    """See `kernels.mask_statistics.mask_statistics`."""

    # One image after the other under vmap: memory stays that of one image, and the loop over instances stays short.
    @jax.custom_batching.sequential_vmap
    def compute(
        mask_logits: jax.Array, boxes: jax.Array, classes: jax.Array, valid: jax.Array, image_size: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        rows, columns = paste_matrices(boxes, size, mask_logits.shape[-1])
        stretched = jnp.einsum('kij,kxj->kix', mask_logits, columns, precision='highest')
        keep = _remove_same_class(stretched, rows, classes, valid, num_classes, threshold)
        return keep, _overlap_ratio(stretched, rows, valid, image_size)

    return compute(mask_logits.astype(jnp.float32), boxes, classes, valid, image_size)


def _remove_same_class(
    stretched: jax.Array, rows: jax.Array, classes: jax.Array, valid: jax.Array, num_classes: int, threshold: float
) -> jax.Array:
    """Which instances are kept, `[K]`: a loop in score order over a map of the classes that each pixel is taken by.

    The map has one bit per class, so that a visit is a few element-wise operations on a handful of words per pixel.

    Args:
        stretched: `[K, M, W]` mask logits, already pasted along x.
        rows: `[K, H, M]` weights that paste them along y.
        classes, valid: `[K]`.
        num_classes: T.
        threshold: the share of an instance that may be covered.
    """
    count, height, _ = rows.shape
    num_words = -(-num_classes // _BITS)
    words = jnp.arange(num_words)[:, None, None]

    def visit(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        taken, keep = carry
        mask = jnp.matmul(rows[index], stretched[index], precision='highest') > 0
        bit = jnp.left_shift(jnp.uint32(1), (classes[index] % _BITS).astype(jnp.uint32))
        bit = jnp.where(words == classes[index] // _BITS, bit, jnp.uint32(0))
        area = jnp.sum(mask)
        covered = jnp.sum(mask & jnp.any(taken & bit != 0, axis=0))
        is_kept = valid[index] & (area > 0) & ~(covered / jnp.maximum(area, 1) > threshold)
        return jnp.where(mask & is_kept, taken | bit, taken), keep.at[index].set(is_kept)

    last = jnp.max(jnp.where(valid, jnp.arange(1, count + 1), 0))
    taken = jnp.zeros((num_words, height, stretched.shape[-1]), jnp.uint32)
    return jax.lax.fori_loop(0, last, visit, (taken, jnp.zeros(count, bool)))[1]


def _overlap_ratio(stretched: jax.Array, rows: jax.Array, valid: jax.Array, image_size: jax.Array) -> jax.Array:
    """Intersection over the smaller mask, `[K, K]`, accumulated over bands of rows; arguments as above."""
    count, height, _ = rows.shape
    width = stretched.shape[-1]
    inside_rows = jnp.arange(height) < image_size[0]
    inside_columns = jnp.arange(width) < image_size[1]

    def intersect(band: tuple[jax.Array, jax.Array]) -> jax.Array:
        weights, is_inside = band
        mask = jnp.einsum('ykj,kjx->kyx', weights, stretched, precision='highest') > 0
        mask &= valid[:, None, None] & is_inside[:, None] & inside_columns
        flat = mask.reshape(count, -1).astype(jnp.float32)
        return (flat @ flat.T).astype(jnp.int32)  # exact: a band has fewer than 2^24 pixels

    band = band_height(height, count * width)
    bands = split_rows(jnp.swapaxes(rows, 0, 1), band), split_rows(inside_rows, band)
    intersection = jnp.sum(jax.lax.map(intersect, bands), axis=0)
    area = jnp.diagonal(intersection)
    smaller = jnp.minimum(area[:, None], area[None, :])
    return jnp.where(jnp.eye(count, dtype=bool), 0.0, intersection / jnp.maximum(smaller, 1))

"""The meaning of `mask_statistics`, in plain XLA, by tiles; full-resolution masks exist as packed bits alone."""

import functools

import jax
import jax.numpy as jnp

from sognet_jax.ops.tiles import on_tiles, paste_in_tile, pasted_corners, with_room

_BITS = 32


def mask_statistics(
    *arrays: jax.Array, size: tuple[int, int], num_classes: int, threshold: float
) -> tuple[jax.Array, jax.Array]:
    """See `kernels.mask_statistics.mask_statistics`; `arrays` are its mask_logits, ... image_size."""

    # One image after the other under vmap: memory stays that of one image, and branches stay branches.
    @jax.custom_batching.sequential_vmap
    def compute(
        mask_logits: jax.Array, boxes: jax.Array, classes: jax.Array, valid: jax.Array, image_size: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        scan = functools.partial(_scan_tiles, size=size)
        logits = mask_logits.astype(jnp.float32)
        bits, intersection = on_tiles(scan, logits, pasted_corners(boxes), valid, image_size)
        area = jnp.diagonal(intersection)
        smaller = jnp.minimum(area[:, None], area[None, :])
        ratio = jnp.where(jnp.eye(len(area), dtype=bool), 0.0, intersection / jnp.maximum(smaller, 1))
        return _remove_same_class(bits, classes, valid, num_classes, threshold), ratio

    return compute(*arrays)


def _scan_tiles(
    mask_logits: jax.Array,
    corners: jax.Array,
    valid: jax.Array,
    image_size: jax.Array,
    *,
    tile: tuple[int, int],
    size: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
    """The masks as bits, `[K, words]` uint32 row by row, and their intersections `[K, K]` int32.

    Corners are the first and last pixels of the masks; those that are not valid are empty. Intersections count in the
    image size. The width of a tile is a multiple of 32.
    """
    count = len(valid)
    grid = (-(-size[0] // tile[0]), -(-size[1] // tile[1]))
    words = (tile[0], tile[1] // _BITS)
    weights = jnp.left_shift(jnp.uint32(1), jnp.arange(_BITS, dtype=jnp.uint32))

    def visit(intersection: jax.Array, index: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        y, x = index[0] * tile[0], index[1] * tile[1]
        from_tile = corners - jnp.stack([x, y, x, y])
        x1, y1, x2, y2 = from_tile.T
        is_here = valid & (x1 < tile[1]) & (x2 >= 0) & (y1 < tile[0]) & (y2 >= 0)
        rows, columns = y + jnp.arange(tile[0])[:, None], x + jnp.arange(tile[1])

        def measure(capacity: int) -> tuple[jax.Array, jax.Array]:
            if not capacity:
                return jnp.zeros((count, *words), jnp.uint32), jnp.zeros((count, count), jnp.int32)
            slots = jnp.argsort(~is_here, stable=True)[:capacity]
            pasted, _ = paste_in_tile(mask_logits[slots], from_tile[slots], tile)
            mask = (pasted > 0) & is_here[slots][:, None, None] & (rows < size[0]) & (columns < size[1])
            bits = jnp.sum(mask.reshape(capacity, *words, _BITS) * weights, axis=-1, dtype=jnp.uint32)
            counted = (mask & (rows < image_size[0]) & (columns < image_size[1])).reshape(capacity, -1)
            counted = counted.astype(jnp.float32)
            common = (counted @ counted.T).astype(jnp.int32)  # exact: a tile has fewer than 2^24 pixels
            return (
                jnp.zeros((count, *words), jnp.uint32).at[slots].set(bits),
                jnp.zeros((count, count), jnp.int32).at[slots[:, None], slots].set(common),
            )

        bits, common = with_room(measure, is_here)
        return intersection + common, bits

    intersection, bits = jax.lax.scan(
        visit, jnp.zeros((count, count), jnp.int32), tuple(jnp.indices(grid).reshape(2, -1))
    )
    bits = jnp.moveaxis(bits.reshape(*grid, count, *words), 2, 0).swapaxes(2, 3)
    bits = bits.reshape(count, grid[0] * words[0], grid[1] * words[1])[:, : size[0], : -(-size[1] // _BITS)]
    return bits.reshape(count, -1), intersection


def _remove_same_class(
    bits: jax.Array, classes: jax.Array, valid: jax.Array, num_classes: int, threshold: float
) -> jax.Array:
    """Which of K masks `[K, words]` are kept: a loop in score order over maps of what each class has taken."""
    count = len(valid)

    def visit(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        taken, keep = carry
        mask, own_taken = bits[index], taken[classes[index]]
        area = jnp.sum(jax.lax.population_count(mask))
        covered = jnp.sum(jax.lax.population_count(mask & own_taken))
        is_kept = valid[index] & (area > 0) & ~(covered / jnp.maximum(area, 1) > threshold)
        taken = taken.at[classes[index]].set(jnp.where(is_kept, own_taken | mask, own_taken))
        return taken, keep.at[index].set(is_kept)

    last = jnp.max(jnp.where(valid, jnp.arange(1, count + 1), 0))
    taken = jnp.zeros((num_classes, bits.shape[1]), jnp.uint32)
    return jax.lax.fori_loop(0, last, visit, (taken, jnp.zeros(count, bool)))[1]

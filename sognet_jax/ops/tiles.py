"""Work on full-resolution masks by tiles, each with the instances that touch it, so that `[K, H, W]` never exists."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import inclusive_corners
from sognet_jax.ops.masks import paste_weights

Result = TypeVar('Result')

TILE = (32, 64)
"""Height and width in pixels: what ten instances need in it fits a CPU's cache."""

LARGE_TILE = (256, 512)
"""The same where every step has a price of its own, whatever its size."""

CAPACITIES = (0, 8, 16)
"""Tiles are computed with room for so many instances, or for all."""


def on_tiles(function: Callable[..., Result], *operands: jax.Array | tuple[jax.Array, ...]) -> Result:
    """`function(*operands, tile=...)` with the tile that suits the platform."""
    return jax.lax.platform_dependent(
        *operands,
        cpu=lambda *operands: function(*operands, tile=TILE),
        default=lambda *operands: function(*operands, tile=LARGE_TILE),
    )


def with_room(function: Callable[[int], Result], is_here: jax.Array) -> Result:
    """`function(capacity)` with the lowest capacity that holds the `[K]` instances that are here.

    Each capacity is compiled; which one runs depends on the number.
    """
    capacities = sorted({min(capacity, len(is_here)) for capacity in (*CAPACITIES, len(is_here))})
    branch = jnp.searchsorted(jnp.array(capacities), jnp.sum(is_here))
    return jax.lax.switch(branch, [lambda capacity=capacity: function(capacity) for capacity in capacities])


def pasted_corners(boxes: jax.Array) -> jax.Array:
    """First and last pixel x1, y1, x2, y2, int32, that a mask is pasted over, of half-open boxes `[K, 4]`.

    The published corners, truncated; it is one pixel at least.
    """
    corners = inclusive_corners(boxes).astype(jnp.int32)
    return jnp.concatenate([corners[:, :2], jnp.maximum(corners[:, 2:], corners[:, :2])], axis=1)


def paste_in_tile(
    mask_logits: jax.Array, corners: jax.Array, tile: Sequence[int]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Mask logits pasted in their boxes, as far as a tile shows them.

    Args:
        mask_logits: `[C, M, M]`.
        corners: `[C, 4]` first and last pixels, counted from the tile's first.
        tile: height and width.

    Returns:
        `[C, h, w]`, 0 outside the boxes; and the rows `[C, h]` and columns `[C, w]`, bool, that are inside.
    """
    rows = paste_weights(corners[:, 1], corners[:, 3], tile[0], mask_logits.shape[1])
    columns = paste_weights(corners[:, 0], corners[:, 2], tile[1], mask_logits.shape[2])
    pasted = jnp.einsum('cyi,cij->cyj', rows, mask_logits, precision='highest')
    pasted = jnp.einsum('cyj,cxj->cyx', pasted, columns, precision='highest')
    return pasted, (jnp.any(rows > 0, axis=-1), jnp.any(columns > 0, axis=-1))

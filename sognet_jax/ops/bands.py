"""Work on full-resolution masks by bands of rows, so that `[K, H, W]` never has to exist."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import inclusive_corners
from sognet_jax.ops.masks import paste_weights

BAND_ELEMENTS = 1 << 24
"""Values of a band that are held at once: 64 MB in float32."""


def band_height(height: int, row_elements: int) -> int:
    """The number of rows in each of the equal bands that `height` rows are cut in.

    Args:
        height: rows in all.
        row_elements: values that the work on one row holds.
    """
    num_bands = min(-(-height * row_elements // BAND_ELEMENTS), height)
    return -(-height // num_bands)


def split_rows(rows: jax.Array, band: int) -> jax.Array:
    """`[H, ...]` -> `[ceil(H / band), band, ...]`; zeros fill the last band."""
    num_bands = -(-rows.shape[0] // band)
    padding = [(0, num_bands * band - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1)
    return jnp.pad(rows, padding).reshape(num_bands, band, *rows.shape[1:])


def paste_matrices(boxes: jax.Array, size: tuple[int, int], mask_size: int) -> tuple[jax.Array, jax.Array]:
    """The two factors of pasting masks in their boxes at full resolution: rows @ mask @ columns^T.

    Args:
        boxes: `[K, 4]` half-open boxes in image pixels; pasting fills the pixels of their truncated inclusive corners.
        size: H, W.
        mask_size: side M of the masks.

    Returns:
        rows `[K, H, M]` and columns `[K, W, M]`, bilinear weights that sum to 1 inside the box and are 0 outside.
    """
    corners = inclusive_corners(boxes).astype(jnp.int32)
    rows = paste_weights(corners[:, 1], corners[:, 3], size[0], mask_size)
    return rows, paste_weights(corners[:, 0], corners[:, 2], size[1], mask_size)

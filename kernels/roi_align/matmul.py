"""ROI align as two products with interpolation weights: for small pyramids, where it needs no gather or scatter."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sognet_jax.kernels.roi_align.geometry import Cells, clamp, level_limits, sample_positions


def roi_align(
    features: Sequence[jax.Array], boxes: jax.Array, level: jax.Array, extent: jax.Array | None, cells: Cells
) -> jax.Array:
    """See `kernels.roi_align.roi_align`. Boxes of other levels get weight 0 on a level."""
    limits = level_limits(features, cells.strides, extent, level.shape[0])

    def cell_weights(position: jax.Array, length: int, limit: jax.Array) -> jax.Array:
        """`[B, R, n]` positions -> `[B, R, S, length]`: the mean weight of a cell's samples on each pixel."""
        position, counts = clamp(position, limit[:, None, None])
        weights = jnp.maximum(1 - jnp.abs(position[..., None] - jnp.arange(length)), 0) * counts[..., None]
        by_cell = (*weights.shape[:2], cells.output_size, cells.sampling_ratio, length)
        return weights.reshape(by_cell).mean(axis=3)

    total = jnp.zeros((), features[0].dtype)
    for index, (feature, stride) in enumerate(zip(features, cells.strides, strict=True)):
        y, x = sample_positions(boxes, jnp.full(level.shape, stride, jnp.float32), cells)
        rows = cell_weights(y, feature.shape[1], limits[:, index, 0]) * (level == index)[..., None, None]
        columns = cell_weights(x, feature.shape[2], limits[:, index, 1])
        strips = jnp.einsum('brsh,bhwc->brswc', rows.astype(feature.dtype), feature)
        total = total + jnp.einsum('brtw,brswc->brstc', columns.astype(feature.dtype), strips)
    return total

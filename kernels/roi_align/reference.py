"""ROI align by gathers from the flattened pyramid: this is the operator's meaning.

Each box reads its own level only.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sognet_jax.kernels.roi_align.geometry import Cells, clamp, level_limits, sample_positions

BOXES_AT_ONCE = 64


def roi_align(
    features: Sequence[jax.Array], boxes: jax.Array, level: jax.Array, extent: jax.Array | None, cells: Cells
) -> jax.Array:
    """See `kernels.roi_align.roi_align`."""
    batch, count = level.shape
    channels, size = features[0].shape[-1], cells.output_size
    # Rows of the table are ordered by level, then image, then pixel.
    table = jnp.concatenate([x.reshape(-1, channels) for x in features])
    heights = np.array([x.shape[1] for x in features])
    widths = np.array([x.shape[2] for x in features])
    starts = np.concatenate([[0], np.cumsum(batch * heights * widths)[:-1]])

    limits = level_limits(features, cells.strides, extent, batch)

    @jax.checkpoint
    def pool(box: jax.Array, box_level: jax.Array, image: jax.Array) -> jax.Array:
        height, width = jnp.array(heights)[box_level], jnp.array(widths)[box_level]
        y, x = sample_positions(box, jnp.array(cells.strides, jnp.float32)[box_level], cells)
        start = jnp.array(starts)[box_level] + image * height * width
        samples = _sample(table, start, width, y, x, limits[image, box_level])
        return samples.reshape(size, cells.sampling_ratio, size, cells.sampling_ratio, channels).mean(axis=(1, 3))

    image = jnp.broadcast_to(jnp.arange(batch)[:, None], (batch, count))
    flat = (boxes.reshape(-1, 4), level.reshape(-1), image.reshape(-1))
    pooled = jax.lax.map(lambda box: pool(*box), flat, batch_size=BOXES_AT_ONCE)
    return pooled.reshape(batch, count, size, size, channels)


def _sample(
    table: jax.Array, start: jax.Array, width: jax.Array, y: jax.Array, x: jax.Array, limit: jax.Array
) -> jax.Array:
    """Bilinear samples on the grid y x x of one map that begins at row `start` of the table, `[n, n, C]`.

    The map is `width` wide; of it, `limit` rows and columns count.
    """
    y, counts_y = clamp(y, limit[0])
    x, counts_x = clamp(x, limit[1])
    top, left = jnp.floor(y), jnp.floor(x)
    samples = jnp.zeros((), table.dtype)
    for row, weight_y in ((top, 1 - (y - top)), (jnp.minimum(top + 1, limit[0] - 1), y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (jnp.minimum(left + 1, limit[1] - 1), x - left)):
            index = start + row.astype(jnp.int32)[:, None] * width + column.astype(jnp.int32)[None, :]
            weight = (weight_y * counts_y)[:, None] * (weight_x * counts_x)[None, :]
            samples = samples + jnp.take(table, index, axis=0, mode='clip') * weight[..., None].astype(table.dtype)
    return samples

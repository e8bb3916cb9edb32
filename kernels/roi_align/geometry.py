"""Where ROI align reads: shared by its implementations."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import inclusive_corners
from sognet_jax.ops.extent import divide_up


class Cells(NamedTuple):
    """How boxes are cut into cells and samples; see `kernels.roi_align.roi_align`."""

    strides: tuple[int, ...]
    output_size: int
    sampling_ratio: int
    aligned: bool

    @property
    def samples(self) -> int:
        """Samples of a box along an axis."""
        return self.output_size * self.sampling_ratio


def sample_positions(boxes: jax.Array, stride: jax.Array, cells: Cells) -> tuple[jax.Array, jax.Array]:
    """Feature coordinates y and x, `[..., n]` each, of the n samples along either axis of boxes `[..., 4]`.

    Boxes are half-open, in image pixels, of which `stride`, `[...]`, are one feature pixel.
    """
    corners = inclusive_corners(boxes) / stride[..., None] - (0.5 if cells.aligned else 0.0)
    sizes = corners[..., 2:] - corners[..., :2]
    if not cells.aligned:
        sizes = jnp.maximum(sizes, 1.0)
    positions = corners[..., :2, None] + sizes[..., None] * ((jnp.arange(cells.samples) + 0.5) / cells.samples)
    return positions[..., 1, :], positions[..., 0, :]


def level_limits(
    features: Sequence[jax.Array], strides: Sequence[int], extent: jax.Array | None, batch: int
) -> jax.Array:
    """`[B, L, 2]` int32 rows and columns of each level that count for each image."""
    sizes = jnp.array([x.shape[1:3] for x in features], jnp.int32)
    if extent is None:
        return jnp.broadcast_to(sizes, (batch, *sizes.shape))
    return jnp.minimum(sizes, divide_up(extent[:, None], jnp.array(strides, jnp.int32)[:, None]))


def clamp(position: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Feature coordinates clamped to a map of so many pixels along the axis, and bool whether the sample counts.

    Samples up to one pixel outside the map read its edge, samples further outside read 0.
    """
    return jnp.clip(position, 0, length - 1), (position >= -1) & (position <= length)

"""Box arithmetic. Boxes are half-open `x1, y1, x2, y2` in pixels: width = x2 - x1.

The published code uses inclusive corners (width = x2 - x1 + 1). Everything here gives the same numbers with x2 and y2
shifted by one; where the shift does not commute, `inclusive_corners` gives the published corners.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

MAX_LOG_RATIO = math.log(1000 / 16)
"""Largest decoded log(width / anchor width)."""

SMALLEST = 1e-3
"""Sizes below this many pixels count as this much in logarithms and quotients: empty slots have size 0."""


def area(boxes: jax.Array) -> jax.Array:
    """`[..., 4]` -> `[...]` area in pixels; 0 for inverted boxes."""
    sizes = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sizes[..., 0] * sizes[..., 1]


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of every pair, `[N, 4]` and `[M, 4]` -> `[N, M]`; 0 where the union is empty."""
    upper = jnp.maximum(a[:, None, :2], b[None, :, :2])
    lower = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    sizes = jnp.maximum(lower - upper, 0)
    intersection = sizes[..., 0] * sizes[..., 1]
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return jnp.where(union > 0, intersection / jnp.where(union > 0, union, 1), 0)


def encode(boxes: jax.Array, anchors: jax.Array, weights: Sequence[float] = (1, 1, 1, 1)) -> jax.Array:
    """Offsets from anchors to boxes (Ren et al. 2015), `[..., 4]`: (dx, dy, dw, dh) times `weights`."""
    centers, sizes = _centers_and_sizes(boxes)
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    shift = (centers - anchor_centers) / anchor_sizes
    return jnp.concatenate([shift, jnp.log(sizes / anchor_sizes)], axis=-1) * jnp.array(weights, jnp.float32)


def decode(deltas: jax.Array, anchors: jax.Array, weights: Sequence[float] = (1, 1, 1, 1)) -> jax.Array:
    """The inverse of `encode`, with dw and dh at most log(1000 / 16)."""
    deltas = deltas / jnp.array(weights, jnp.float32)
    anchor_sizes = anchors[..., 2:] - anchors[..., :2]
    anchor_centers = anchors[..., :2] + 0.5 * anchor_sizes
    centers = deltas[..., :2] * anchor_sizes + anchor_centers
    half = 0.5 * jnp.exp(jnp.minimum(deltas[..., 2:], MAX_LOG_RATIO)) * anchor_sizes
    return jnp.concatenate([centers - half, centers + half], axis=-1)


def clip(boxes: jax.Array, image_size: jax.Array) -> jax.Array:
    """Boxes `[..., 4]` inside an image of `[2]` height and width: x1, y1 in [0, size - 1], x2, y2 in [1, size]."""
    height, width = image_size[0], image_size[1]
    largest = jnp.stack([width - 1, height - 1, width, height]).astype(boxes.dtype)
    return jnp.clip(boxes, jnp.array([0, 0, 1, 1], boxes.dtype), largest)


def inclusive_corners(boxes: jax.Array) -> jax.Array:
    """The corners that the published code has for these boxes: x2 and y2 are the last pixel, not the one behind."""
    return boxes - jnp.array([0, 0, 1, 1], boxes.dtype)


def _centers_and_sizes(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    sizes = jnp.maximum(boxes[..., 2:] - boxes[..., :2], SMALLEST)
    return boxes[..., :2] + 0.5 * sizes, sizes

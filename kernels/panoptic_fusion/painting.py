"""What all implementations of `panoptic_fusion` start from: options, and the instances in painting order."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import inclusive_corners
from sognet_jax.ops.tiles import pasted_corners

VOID = -1


class Options(NamedTuple):
    """How the panoptic map is made; see `kernels.panoptic_fusion.panoptic_fusion`."""

    num_stuff: int
    head: int
    balance: float
    resolve: str
    outside: str
    void_channel: bool


class Inputs(NamedTuple):
    """The arrays of `kernels.panoptic_fusion.panoptic_fusion`."""

    mask_logits: jax.Array
    boxes: jax.Array
    classes: jax.Array
    valid: jax.Array
    relations: jax.Array
    semantic: jax.Array
    partners: jax.Array


class OrderedInstances(NamedTuple):
    """The instances of an image in painting order; pixels are counted from `[0, 0]` of what is painted."""

    mask_logits: jax.Array  # [K, M, M] float32
    corners: jax.Array  # [K, 4] int32, first and last pixel x1, y1, x2, y2 of the pasted mask
    crops: jax.Array  # [K, 4] int32, first and last pixel of its semantic logits, which are rounded differently
    classes: jax.Array  # [K] int32
    valid: jax.Array  # [K] bool
    relations: jax.Array  # [K, K] float32
    labels: jax.Array  # [S + K + 1] int32: the id of each channel: stuff, instances, void


def order_instances(inputs: Inputs, num_stuff: int) -> OrderedInstances:
    """The instances of an image in painting order."""
    mask_logits, boxes, classes, valid, relations, _, partners = inputs
    order = jnp.argsort(-partners, stable=True)
    corners = pasted_corners(boxes[order])
    last_of_crop = jnp.round(inclusive_corners(boxes[order])[:, 2:]).astype(jnp.int32)
    return OrderedInstances(
        mask_logits[order].astype(jnp.float32),
        corners,
        jnp.concatenate([corners[:, :2], last_of_crop], axis=1),
        classes[order].astype(jnp.int32),
        valid[order],
        relations[order][:, order].astype(jnp.float32),
        jnp.concatenate([jnp.arange(num_stuff), num_stuff + order, jnp.array([VOID])]).astype(jnp.int32),
    )


def reaches(
    scene: OrderedInstances, low: jax.Array | int, high: jax.Array | int, axis: int
) -> tuple[jax.Array, jax.Array]:
    """Which masks, and which of their crops, `[..., K]`, have a pixel in `low .. high - 1` along x (0) or y (1)."""

    def reach(spans: jax.Array) -> jax.Array:
        return (spans[:, axis] < high) & (spans[:, axis + 2] >= low)

    return reach(scene.corners), reach(scene.crops)

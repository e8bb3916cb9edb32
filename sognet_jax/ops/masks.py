"""Instance masks between the frame of a box and the frame of the image, as products with interpolation weights."""

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import SMALLEST, inclusive_corners


def paste_weights(first: jax.Array, last: jax.Array, out_size: int, in_size: int = 28) -> jax.Array:
    """Bilinear weights that spread `in_size` samples over the pixels `first .. last`, one axis.

    Args:
        first, last: `[...]` int, first and last pixel; may lie outside the image; at least one pixel is meant.
        out_size: pixels of the image along this axis.
        in_size: samples.

    Returns:
        `[..., out_size, in_size]` float32; rows of pixels outside `first .. last` are 0, others sum to 1.
    """
    length = jnp.maximum(last - first + 1, 1)[..., None]
    offset = jnp.arange(out_size) - first[..., None]
    source = jnp.clip((offset + 0.5) * in_size / length - 0.5, 0, in_size - 1)
    weights = jnp.maximum(1 - jnp.abs(source[..., None] - jnp.arange(in_size)), 0)
    inside = (offset >= 0) & (offset < length)
    return jnp.where(inside[..., None], weights, 0.0)


def paste_masks(
    logits: jax.Array, boxes: jax.Array, size: tuple[int, int], stride: int = 1, top: int | jax.Array = 0
) -> tuple[jax.Array, jax.Array]:
    """A of the paper: mask logits resized to their boxes and padded with 0 (the published paste).

    Args:
        logits: `[..., N, m, m]`.
        boxes: `[..., N, 4]` half-open, in image pixels; a mask fills the pixels from its truncated first to its
            truncated last inclusive corner, at least one.
        size: height and width of the result.
        stride: image pixels per pixel of the result.
        top: the row of the whole result that this part of it begins with.

    Returns:
        `[..., N, h, w]` pasted logits, and bool where a pixel is inside the box.
    """
    corners = (inclusive_corners(boxes) / stride).astype(jnp.int32)
    rows = paste_weights(corners[..., 1] - top, corners[..., 3] - top, size[0], logits.shape[-2])
    columns = paste_weights(corners[..., 0], corners[..., 2], size[1], logits.shape[-1])
    pasted = jnp.einsum('...ym,...mn,...xn->...yx', rows, logits, columns, precision='highest')
    inside = jnp.any(rows > 0, axis=-1)[..., :, None] & jnp.any(columns > 0, axis=-1)[..., None, :]
    return pasted, inside


def crop_resize_masks(masks: jax.Array, mask_boxes: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """Masks given inside one box, seen through another, `[R, size, size]`: bilinear samples, 0 outside the first box.

    Args:
        masks: `[R, M, M]` values of each mask inside its own box.
        mask_boxes: `[R, 4]` the masks' boxes.
        boxes: `[R, 4]` the boxes to look through.
        size: samples per side, at the centres of `size` x `size` equal cells.
    """
    samples = masks.shape[-1]

    def weights(low: jax.Array, high: jax.Array, mask_low: jax.Array, mask_high: jax.Array) -> jax.Array:
        position = low[:, None] + (high - low)[:, None] * ((jnp.arange(size) + 0.5) / size)
        extent = jnp.maximum(mask_high - mask_low, SMALLEST)[:, None]
        source = (position - mask_low[:, None]) / extent * samples - 0.5
        inside = (source >= -0.5) & (source <= samples - 0.5)
        nearest = jnp.clip(source, 0, samples - 1)[..., None]
        return jnp.where(inside[..., None], jnp.maximum(1 - jnp.abs(nearest - jnp.arange(samples)), 0), 0.0)

    rows = weights(boxes[:, 1], boxes[:, 3], mask_boxes[:, 1], mask_boxes[:, 3])
    columns = weights(boxes[:, 0], boxes[:, 2], mask_boxes[:, 0], mask_boxes[:, 2])
    return jnp.einsum('rym,rmn,rxn->ryx', rows, masks, columns, precision='highest')


def semantic_crop(boxes: jax.Array, size: tuple[int, int], stride: int, top: int | jax.Array = 0) -> jax.Array:
    """Where X_i is taken from, `[..., N, h, w]` bool: the box's pixels with the published rounding, unlike the paste's.

    Rows int(y1 / stride) to round(y2 / stride) with inclusive corners, half to even; columns likewise.

    Args:
        boxes: `[..., N, 4]` half-open, in image pixels.
        size: height and width of the result.
        stride: image pixels per pixel of the result.
        top: the row of the whole result that this part of it begins with.
    """
    corners = inclusive_corners(boxes) / stride
    first = corners[..., :2].astype(jnp.int32)
    last = jnp.round(corners[..., 2:]).astype(jnp.int32)

    def inside(axis: int, length: int, start: int | jax.Array = 0) -> jax.Array:
        pixel = jnp.arange(length) + start
        return (pixel >= first[..., axis, None]) & (pixel <= last[..., axis, None])

    return inside(1, size[0], top)[..., :, None] & inside(0, size[1])[..., None, :]

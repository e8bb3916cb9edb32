"""The part of a padded batch that counts.

Images of a batch are padded to one size. Padding is zero, but what convolutions and normalisations make of it is not,
and it would reach the image through every 3x3 convolution. So that the result for an image does not depend on the
size of its batch, layers treat what lies outside the image's EXTENT as if it were not there: its size rounded up to
`MULTIPLE`, which is the size that the published code pads each image to.

An extent is `[B, 2]` int32, rows and columns in pixels of the array it goes with; None stands for the whole array.
"""

import jax
import jax.numpy as jnp

MULTIPLE = 32


def image_extent(image_size: jax.Array) -> jax.Array:
    """`[B, 2]` height and width of images -> their extent in a padded batch."""
    return divide_up(image_size, MULTIPLE) * MULTIPLE


def reduced(extent: jax.Array | None, stride: int) -> jax.Array | None:
    """The extent after sub-sampling by `stride`."""
    return None if extent is None else divide_up(extent, stride)


def divide_up(length: jax.Array, divisor: jax.Array | int) -> jax.Array:
    """`length / divisor` rounded up, int32, for whole numbers of any type that are not negative.

    `//` also looks after signs: a dozen operations, which XLA repeats in every loop that uses the result.
    """
    length, divisor = jnp.asarray(length, jnp.int32), jnp.asarray(divisor, jnp.int32)
    return jax.lax.div(*jnp.broadcast_arrays(length + divisor - 1, divisor))


def zero_outside(x: jax.Array, extent: jax.Array | None) -> jax.Array:
    """`[B, H, W, C]` with zeros outside the extent, as if a convolution padded the image there."""
    if extent is None:
        return x
    height, width = x.shape[1:3]
    return jnp.where(is_inside((height, width), extent)[..., None], x, jnp.zeros((), x.dtype))


def is_inside(size: tuple[int, int], extent: jax.Array) -> jax.Array:
    """`[B, H, W]` bool for arrays of H, W = `size`."""
    rows = jnp.arange(size[0]) < extent[:, 0, None]
    columns = jnp.arange(size[1]) < extent[:, 1, None]
    return rows[:, :, None] & columns[:, None, :]


def mean_inside(x: jax.Array, extent: jax.Array | None) -> jax.Array:
    """Mean over the pixels of the extent, `[B, H, W, C]` -> `[B, 1, 1, C]`."""
    if extent is None:
        return jnp.mean(x, axis=(1, 2), keepdims=True)
    pixels = jnp.prod(extent, axis=1).astype(jnp.float32)[:, None, None, None]
    total = jnp.sum(zero_outside(x, extent), axis=(1, 2), keepdims=True, dtype=jnp.float32)
    return (total / pixels).astype(x.dtype)

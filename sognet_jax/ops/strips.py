"""Sums over all pixels of an image by strips of rows, whose memory does not grow with the image.

An array of one strip is computed, used and forgotten; for the gradient it is computed again (rematerialisation). The
sum and its gradient are those of the whole image, up to the order of the summation. `strip_height` says how high a
strip may be: small images are one strip, and nothing is computed twice.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sognet_jax.ops.resize import enlarge_axis, with_edges

STRIP_ELEMENTS = 1 << 24
"""Values of a strip that are held at once: 64 MB in float32."""


def strip_height(height: int, row_elements: int) -> int:
    """The height of the equal strips that `height` rows are cut in; the work on a row holds so many values."""
    num_strips = min(-(-height * row_elements // STRIP_ELEMENTS), height)
    return -(-height // num_strips)


def cut_rows(x: jax.Array, strip: int, fill: float = 0) -> jax.Array:
    """`[B, H, ...]` -> `[ceil(H / strip), B, strip, ...]`; `fill` is in the last strip's rows beyond H."""
    batch, height, *rest = x.shape
    num_strips = -(-height // strip)
    padding = [(0, 0), (0, num_strips * strip - height)] + [(0, 0)] * len(rest)
    padded = jnp.pad(x, padding, constant_values=fill)
    return jnp.moveaxis(padded.reshape(batch, num_strips, strip, *rest), 1, 0)


def cut_rows_with_neighbours(x: jax.Array, strip: int) -> jax.Array:
    """`[B, H, ...]` -> `[ceil(H / strip), B, 1 + strip + 1, ...]`: strips with the row above and the row below them.

    Outside the image its edge is repeated.
    """
    height = x.shape[1]
    num_strips = -(-height // strip)
    edge = jnp.broadcast_to(x[:, -1:], (x.shape[0], num_strips * strip - height + 1, *x.shape[2:]))
    padded = jnp.concatenate([x[:, :1], x, edge], axis=1)
    # Slices rather than a gather: the gradient of a gather is a scatter.
    inner = cut_rows(padded[:, 1:-1], strip)
    above, below = (jnp.moveaxis(padded[:, first::strip][:, :num_strips, None], 1, 0) for first in (0, strip + 1))
    return jnp.concatenate([above, inner, below], axis=2)


def enlarge_strip(x: jax.Array, factor: int) -> jax.Array:
    """`[..., 1 + h + 1, w, C]` -> `[..., factor h, factor w, C]`: those rows of the image's `resize_bilinear`."""
    x = enlarge_axis(x, factor, x.ndim - 3)
    return enlarge_axis(with_edges(x, x.ndim - 2), factor, x.ndim - 2)


def sum_over_strips(function: Callable[[Any], jax.Array], strips: Any) -> jax.Array:
    """The sum of `function` over strips, of which one is in memory at a time, forward and backward.

    Args:
        function: one strip -> an array; what it closes over may be differentiated as well.
        strips: a tree of arrays `[num_strips, ...]`.
    """
    first = jax.tree.map(lambda x: x[0], strips)
    if len(jax.tree.leaves(strips)[0]) == 1:
        return function(first)
    # A scan keeps what separates the second computation from the first, which prevent_cse is for.
    forgetful = jax.checkpoint(function, prevent_cse=False)
    shape = jax.eval_shape(function, first)
    total, _ = jax.lax.scan(
        lambda total, strip: (total + forgetful(strip), None), jnp.zeros(shape.shape, shape.dtype), strips
    )
    return total

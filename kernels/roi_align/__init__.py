"""ROI align (He et al. 2017) over the levels of a feature pyramid."""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sognet_jax.kernels.choice import INTERPRETED, TRITON, XLA, choose_implementation, current_target
from sognet_jax.kernels.roi_align import matmul, reference, windows
from sognet_jax.kernels.roi_align.geometry import Cells
from sognet_jax.ops.boxes import area


def _run_kernel(*arguments: Any, **options: Any) -> jax.Array:
    # Only here: a JAX without Triton can still import this.
    return importlib.import_module('sognet_jax.kernels.roi_align.triton').roi_align(*arguments, **options)


_FUNCTIONS: Mapping[str, Callable[..., jax.Array]] = {
    XLA: reference.roi_align,
    'matmul': matmul.roi_align,
    'windows': windows.roi_align,
    TRITON: functools.partial(_run_kernel, interpret=False),
    INTERPRETED: functools.partial(_run_kernel, interpret=True),
}

IMPLEMENTATIONS = tuple(_FUNCTIONS)

MATMUL_PIXELS = 4096
"""Pyramids of at most this many pixels are pooled by matrix products: on a CPU that beats gathers and scatters."""


def roi_align(
    features: Sequence[jax.Array],
    boxes: jax.Array,
    level: jax.Array,
    *,
    strides: Sequence[int],
    output_size: int,
    sampling_ratio: int = 2,
    aligned: bool = False,
    extent: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Average of bilinear samples in each of S x S cells of a box, read from the box's own pyramid level.

    Published convention (`aligned=False`): the box's inclusive corners divided by the stride are continuous
    coordinates, without half-pixel shift, and a box is at least one feature pixel wide and high.

    Gradients go to the features alone: boxes get none, as in torchvision.

    Args:
        features: pyramid levels `[B, H_l, W_l, C]`.
        boxes: `[B, R, 4]` half-open boxes in image pixels.
        level: `[B, R]` int32, the index of each box's level, clamped to those there are.
        strides: image pixels per pixel of each level.
        output_size: S.
        sampling_ratio: samples per cell and axis.
        aligned: the half-pixel convention: corners are shifted by half a feature pixel, sizes are not clamped.
        extent: `[B, 2]` rows and columns of the image that count, in image pixels: coordinates are clamped to them as
            to the border of a level. None: all.
        implementation: one of `IMPLEMENTATIONS`, or None for the fastest here: `xla` (gathers), `matmul` (products with
            interpolation weights; its work grows with the size of the pyramid), `windows` (for CPUs: box by box, tile
            by tile; its work grows with the boxes' area on their levels), `triton` (the kernel for GPUs),
            `triton_interpreted` (the same for tests).

    Returns:
        `[B, R, S, S, C]`.

    Raises:
        ValueError: there is no such implementation, or it cannot run here.
    """
    chosen = chosen_implementation(features, implementation)
    if not level.size:  # No loop over boxes has a first one.
        return jnp.zeros((*level.shape, output_size, output_size, features[0].shape[-1]), features[0].dtype)
    return _FUNCTIONS[chosen](
        features,
        jax.lax.stop_gradient(boxes),
        jnp.clip(level, 0, len(features) - 1),
        extent,
        Cells(tuple(strides), output_size, sampling_ratio, aligned),
    )


def chosen_implementation(features: Sequence[jax.Array], implementation: str | None = None) -> str:
    """The name of the implementation that `roi_align` runs for these levels; arguments and errors are its."""
    is_small = sum(level.shape[1] * level.shape[2] for level in features) <= MATMUL_PIXELS
    return choose_implementation(
        'roi_align',
        implementation,
        IMPLEMENTATIONS,
        default='matmul' if is_small else 'windows' if current_target().platform == 'cpu' else XLA,
        features=features[0],
    )


def pyramid_level(boxes: jax.Array, num_levels: int = 4) -> jax.Array:
    """The level `[...]` int32 that boxes `[..., 4]` in image pixels are pooled from (Lin et al. 2017).

    0 for P2, one more for each doubling of the size above 112: floor(2 + log2(sqrt(w h) / 224)), clamped.
    """
    size = jnp.sqrt(area(boxes))
    return jnp.clip(jnp.floor(2 + jnp.log2(size / 224 + 1e-6)), 0, num_levels - 1).astype(jnp.int32)

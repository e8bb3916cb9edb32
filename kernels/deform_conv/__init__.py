"""Deformable convolution v1 and v2 (Dai et al. 2017, Zhu et al. 2019)."""

import jax

from sognet_jax.kernels.choice import INTERPRETED, TRITON, XLA, choose_implementation
from sognet_jax.kernels.deform_conv import reference

IMPLEMENTATIONS = (XLA, TRITON, INTERPRETED)


def deform_conv2d(
    x: jax.Array,
    offset: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    offset_groups: int = 1,
    implementation: str | None = None,
) -> jax.Array:
    """A convolution whose taps read the input at offset positions, by bilinear interpolation.

    Tap (ky, kx) of output (y, x) reads at (y * stride - padding + ky * dilation + dy, likewise in x). Pixels outside
    the image count as 0.

    Args:
        x: `[B, H, W, C]`.
        offset: `[B, Ho, Wo, G * K * 2]`: per offset group and tap (row-major) the pair (dy, dx) in pixels.
        weight: `[kh, kw, C, O]`; K = kh * kw.
        bias: `[O]`, or None.
        mask: `[B, Ho, Wo, G * K]` factors of the samples (v2), used as given; None for v1.
        stride, padding, dilation: as in a convolution, the same for both axes.
        offset_groups: G; channel c of the input belongs to group c // (C / G).
        implementation: `xla`; `triton`, a fused kernel for GPUs (`kernels.deform_conv.triton`); `triton_interpreted`,
            the same kernel on any device, slowly; None for the fastest that can run here with these arguments.

    Returns:
        `[B, Ho, Wo, O]`.

    Raises:
        ValueError: there is no such implementation, it cannot run here, or shapes do not fit together.
    """
    taps = weight.shape[0] * weight.shape[1]
    if offset.shape[-1] != 2 * taps * offset_groups:
        raise ValueError(
            f'offset needs {2 * taps * offset_groups} channels (2 x taps x groups), not {offset.shape[-1]}'
        )
    if mask is not None and mask.shape[-1] != taps * offset_groups:
        raise ValueError(f'mask needs {taps * offset_groups} channels (taps x groups), not {mask.shape[-1]}')
    if x.shape[-1] != weight.shape[2] or x.shape[-1] % offset_groups:
        raise ValueError(f'x has {x.shape[-1]} channels, weight {weight.shape[2]}, in {offset_groups} offset groups')
    chosen = choose_implementation('deform_conv2d', implementation, IMPLEMENTATIONS, x=x, weight=weight)
    options = {'stride': stride, 'padding': padding, 'dilation': dilation, 'offset_groups': offset_groups}
    if chosen == XLA:
        return reference.deform_conv2d(x, offset, weight, bias, mask, **options)
    # Only here: a JAX without Triton can still import this.
    from sognet_jax.kernels.deform_conv import triton

    return triton.deform_conv2d(x, offset, weight, bias, mask, **options, interpret=chosen == INTERPRETED)

"""ROI align as suits the platform that a program is lowered for, which need not be the one it is traced on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sognet_jax.kernels.roi_align import reference, windows
from sognet_jax.kernels.roi_align.windows import Plan

Features = tuple[jax.Array, ...]


def roi_align(
    features: Sequence[jax.Array],
    boxes: jax.Array,
    level: jax.Array,
    *,
    strides: Sequence[int],
    output_size: int,
    sampling_ratio: int,
    aligned: bool,
    extent: jax.Array | None,
) -> jax.Array:
    """See `kernels.roi_align.roi_align`: `windows` on CPUs, `reference` elsewhere."""
    shapes = tuple(x.shape for x in features)
    plan = Plan(shapes, features[0].dtype, tuple(strides), output_size, sampling_ratio, aligned)
    return _pool(plan, tuple(features), boxes, level, extent)


# Derivatives go around the choice: those of `platform_dependent` keep what either of its branches would need.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(plan: Plan, features: Features, boxes: jax.Array, level: jax.Array, extent: jax.Array | None) -> jax.Array:
    def run(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda *operands: _call(function, plan, *operands)

    return lax.platform_dependent(
        features, boxes, level, extent, cpu=run(windows.roi_align), default=run(reference.roi_align)
    )


def _pool_forward(plan: Plan, features: Features, *rest: jax.Array | None) -> tuple[jax.Array, tuple]:
    return _pool(plan, features, *rest), rest


def _pool_backward(plan: Plan, rest: tuple, cotangent: jax.Array) -> tuple[Features, None, None, None]:
    def transpose(function: Callable[..., jax.Array]) -> Callable[..., Features]:
        def backward(cotangent: jax.Array, boxes: jax.Array, level: jax.Array, extent: jax.Array | None) -> Features:
            # Pooling is linear: any features will do.
            zeros = tuple(jnp.zeros(shape, plan.dtype) for shape in plan.shapes)
            pool = functools.partial(_call, function, plan)
            return jax.vjp(lambda features: pool(features, boxes, level, extent), zeros)[1](cotangent)[0]

        return backward

    gradient = lax.platform_dependent(
        cotangent, *rest, cpu=transpose(windows.roi_align), default=transpose(reference.roi_align)
    )
    return gradient, None, None, None


_pool.defvjp(_pool_forward, _pool_backward)


def _call(
    function: Callable[..., jax.Array],
    plan: Plan,
    features: Features,
    boxes: jax.Array,
    level: jax.Array,
    extent: jax.Array | None,
) -> jax.Array:
    return function(
        features, boxes, level, strides=plan.strides, output_size=plan.output_size,
        sampling_ratio=plan.sampling_ratio, aligned=plan.aligned, extent=extent,
    )  # fmt: skip

"""ROI align as suits the platform that a program is lowered for, which need not be the one it is traced on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sognet_jax.kernels.roi_align import reference, windows
from sognet_jax.kernels.roi_align.geometry import Cells
from sognet_jax.kernels.roi_align.windows import Plan

Features = tuple[jax.Array, ...]
Pool = Callable[..., jax.Array]


def roi_align(
    features: Sequence[jax.Array], boxes: jax.Array, level: jax.Array, extent: jax.Array | None, cells: Cells
) -> jax.Array:
    """See `kernels.roi_align.roi_align`: `windows` on CPUs, `reference` elsewhere."""
    plan = Plan(tuple(x.shape for x in features), features[0].dtype, cells)
    return _pool(plan, tuple(features), boxes, level, extent)


# Derivatives go around the choice: those of `platform_dependent` keep what either of its branches would need.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(plan: Plan, features: Features, boxes: jax.Array, level: jax.Array, extent: jax.Array | None) -> jax.Array:
    def run(pool: Pool) -> Pool:
        return lambda *operands: pool(*operands, plan.cells)

    return lax.platform_dependent(
        features, boxes, level, extent, cpu=run(windows.roi_align), default=run(reference.roi_align)
    )


def _pool_forward(plan: Plan, features: Features, *rest: jax.Array | None) -> tuple[jax.Array, tuple]:
    return _pool(plan, features, *rest), rest


def _pool_backward(plan: Plan, rest: tuple, cotangent: jax.Array) -> tuple[Features, None, None, None]:
    def transpose(pool: Pool) -> Callable[..., Features]:
        def backward(cotangent: jax.Array, *rest: jax.Array | None) -> Features:
            # Pooling is linear: any features will do.
            zeros = tuple(jnp.zeros(shape, plan.dtype) for shape in plan.shapes)
            return jax.vjp(lambda features: pool(features, *rest, plan.cells), zeros)[1](cotangent)[0]

        return backward

    gradient = lax.platform_dependent(
        cotangent, *rest, cpu=transpose(windows.roi_align), default=transpose(reference.roi_align)
    )
    return gradient, None, None, None


_pool.defvjp(_pool_forward, _pool_backward)

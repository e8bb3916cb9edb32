"""Products on tensor cores with all bits of float32."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import triton as plt

PARTS = 3
"""Values of bfloat16, eight bits each, that a float32 is the sum of."""


def exact_dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a @ b` of `[m, k]` and `[k, n]`, as accurate as in float32; `a` may be bfloat16, which is taken as it is.

    Triton's own product of float32, without the ten bits of TF32, keeps whole rows in the registers of a thread: with
    128 rows it no longer has room. Products of bfloat16 run on tensor cores; those of parts that matter are added up.
    """
    a_parts, b_parts = _parts(a), _parts(b)
    products = [(i + j, plt.dot(x, y)) for i, x in enumerate(a_parts) for j, y in enumerate(b_parts) if i + j < PARTS]
    total = jnp.zeros((), jnp.float32)
    for _, product in sorted(products, key=lambda item: -item[0]):  # small ones first
        total = total + product
    return total


def _parts(values: jax.Array) -> list[jax.Array]:
    """What sums up to the values, largest first. Bits are cut off, not rounded: a rounding might be optimized away."""
    if values.dtype == jnp.bfloat16:
        return [values]
    parts = []
    for _ in range(PARTS):
        bits = lax.bitcast_convert_type(values, jnp.int32) & jnp.int32(-65536)
        part = lax.bitcast_convert_type(bits, jnp.float32)
        parts.append(part.astype(jnp.bfloat16))
        values = values - part
    return parts

"""The arg max in a form that vectorizes: XLA's own keeps pairs of value and index, one at a time on a CPU."""

import jax
import jax.numpy as jnp


def first_best(values: jax.Array, numbers: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The highest value along an axis and the lowest number that has it, of `[n]` integers for the places along it.

    Where a value is not a number, the second is the highest number.
    """
    best = jnp.max(values, axis=axis, keepdims=True, initial=-jnp.inf)
    beside = numbers.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])
    number = jnp.min(jnp.where(values == best, beside, jnp.max(numbers)), axis=axis)
    return best.squeeze(axis), number

"""Floating point operations of the products and convolutions of a program, with loops as often as they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def count_flops(function: Callable[..., Any], *inputs: Any) -> float:
    """Multiplications and additions of all products and convolutions; loops of unknown length count once.

    Of the branches of a choice the largest counts. XLA's own analysis counts the body of every loop once.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*inputs).jaxpr)


def _of_jaxpr(jaxpr: Any) -> float:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == 'dot_general':
        (contracted, _), _ = parameters['dimension_numbers']
        shape = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * np.prod([shape[axis] for axis in contracted])
    if name == 'conv_general_dilated':
        features = parameters['dimension_numbers'].rhs_spec[0]
        kernel, result = equation.invars[1].aval, equation.outvars[0].aval
        # What multiplies the zeros between the rows of a transposed convolution does not count.
        spread = np.prod(parameters['lhs_dilation'])
        return 2.0 * result.size * kernel.size / kernel.shape[features] / spread
    if name == 'cond':
        return max(_of_jaxpr(branch.jaxpr) for branch in parameters['branches'])
    times = parameters['length'] if name == 'scan' else 1
    return times * sum(_of_jaxpr(jaxpr) for jaxpr in jax.core.jaxprs_in_params(parameters))

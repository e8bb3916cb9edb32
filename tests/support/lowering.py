"""Lowers a function for NVIDIA GPUs on a machine that may have none."""

from collections.abc import Callable
from unittest import mock

import jax
from jax._src.pallas.triton import lowering

_lower_kernel = lowering.lower_jaxpr_to_triton_module


def lower_for_cuda(function: Callable, *shapes: jax.ShapeDtypeStruct) -> str:
    """The text of the module that `function` becomes for CUDA with arguments of these shapes.

    Kernels are verified as well: JAX writes them into the module as they are, and a GPU alone would find what is wrong.
    """
    with mock.patch.object(lowering, 'lower_jaxpr_to_triton_module', _lower_and_verify):
        if jax.__version_info__ < (0, 11):
            return jax.jit(function).trace(*shapes).lower(lowering_platforms=('cuda',)).as_text()
        # From JAX 0.11 on, what a kernel becomes depends on the device's model.
        device = jax.sharding.AbstractDevice('NVIDIA H100 80GB HBM3', None, 'gpu')
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ('x',), abstract_device=device)):
            return jax.jit(function).trace(*shapes).lower(lowering_platforms=('cuda',)).as_text()


def _lower_and_verify(*arguments, **options):
    result = _lower_kernel(*arguments, **options)
    result.module.operation.verify()
    return result

"""Lowers a function for NVIDIA GPUs on a machine that may have none."""

from collections.abc import Callable

import jax


def lower_for_cuda(function: Callable, *shapes: jax.ShapeDtypeStruct) -> str:
    """The text of the module that `function` becomes for CUDA with arguments of these shapes."""
    if jax.__version_info__ < (0, 11):
        return jax.jit(function).trace(*shapes).lower(lowering_platforms=('cuda',)).as_text()
    # From JAX 0.11 on, what a kernel becomes depends on the device's model.
    device = jax.sharding.AbstractDevice('NVIDIA H100 80GB HBM3', None, 'gpu')
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ('x',), abstract_device=device)):
        return jax.jit(function).trace(*shapes).lower(lowering_platforms=('cuda',)).as_text()

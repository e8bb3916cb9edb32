"""Which implementation of an operator runs: shared by all operators of this package."""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

XLA = 'xla'
"""The reference: it defines the operator's meaning and runs everywhere."""

TRITON = 'triton'
"""The Pallas kernel for GPUs, lowered through Triton."""

INTERPRETED = 'triton_interpreted'
"""The same kernel in Pallas's interpreter: very slow, on any device, for tests."""


_REFERENCE_ONLY: contextvars.ContextVar[bool] = contextvars.ContextVar('reference_only', default=False)


@contextlib.contextmanager
def reference_only() -> Iterator[None]:
    """What is traced inside runs the reference wherever nobody asks for another implementation.

    For programs that shall run on another device than the one they are traced on.
    """
    token = _REFERENCE_ONLY.set(True)
    try:
        yield
    finally:
        _REFERENCE_ONLY.reset(token)


def choose_implementation(
    operator: str, requested: str | None, available: Sequence[str], *, default: str = XLA, refusal: str | None = None
) -> str:
    """The implementation to run.

    Args:
        operator: its name, for messages.
        requested: what the caller asks for; None for the fastest that can run.
        available: names of the operator's implementations.
        default: what is chosen where the Triton kernel cannot run.
        refusal: why the Triton kernel does not support these arguments; None where it does.

    Raises:
        ValueError: there is no such implementation, or the requested one cannot run here.
    """
    if requested is None and _REFERENCE_ONLY.get():
        requested = XLA
    if requested not in (None, *available):
        raise ValueError(f'{operator} has the implementations {tuple(available)}, not {requested!r}')
    on_gpu = jax.default_backend() == 'gpu'
    if requested is None:
        return TRITON if TRITON in available and on_gpu and refusal is None else default
    if requested == TRITON and not on_gpu:
        raise ValueError(f"{operator}: implementation 'triton' needs a GPU; JAX runs on {jax.default_backend()} here")
    if requested in (TRITON, INTERPRETED) and refusal is not None:
        raise ValueError(f'{operator}: implementation {requested!r} cannot run: {refusal}')
    return requested


def triton_refusal(**operands: jax.Array) -> str | None:
    """Why no kernel can be lowered through Triton for these operands; None where one can.

    It is announced to leave JAX after 0.11, so that the modules of the kernels are imported only where one runs.
    """
    if importlib.util.find_spec('jax.experimental.pallas.triton') is None:
        return f'JAX {jax.__version__} has no Triton for Pallas'
    for name, operand in operands.items():
        if operand.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
            return f'{name} is {operand.dtype}, not float32, bfloat16 or float16'
    return None

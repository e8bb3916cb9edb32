"""Which implementation of an operator runs, and on what: shared by all operators of this package."""

import contextlib
import contextvars
import dataclasses
import functools
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp

XLA = 'xla'
"""The reference: it defines the operator's meaning and runs everywhere."""

TRITON = 'triton'
"""The Pallas kernel for GPUs, lowered through Triton."""

INTERPRETED = 'triton_interpreted'
"""The same kernel in Pallas's interpreter: very slow, on any device, for tests."""

FIRST_CAPABILITY = (8, 0)
"""Compute capability of the first NVIDIA GPUs (Ampere) for which Triton compiles."""

TYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
"""What kernels read."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a program is traced for."""

    platform: str  # as JAX calls it; `any` for programs that shall run wherever they are sent
    name: str = ''  # of the device, for messages
    capability: tuple[int, int] = (0, 0)  # compute capability of a GPU; (0, 0) where it says none that is NVIDIA's
    multiprocessors: int = 132  # of a GPU
    shared_memory: int = 232_448  # bytes of it that a program on a GPU may have

    @classmethod
    def of(cls, device: jax.Device) -> Self:
        """What a device says of itself; where it does not, an H100's figures, as for the interpreter of kernels."""
        major, _, minor = str(getattr(device, 'compute_capability', '')).partition('.')
        capability = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
        found = {
            'multiprocessors': getattr(device, 'core_count', None),
            'shared_memory': getattr(device, 'shared_memory_per_block_optin', None),
        }
        known = {name: int(value) for name, value in found.items() if device.platform == 'gpu' and value}
        return cls(device.platform, device.device_kind, capability, **known)


ANYWHERE = Target('any')

_target: contextvars.ContextVar[Target | None] = contextvars.ContextVar('target', default=None)


@contextlib.contextmanager
def traced_for(target: Target) -> Iterator[None]:
    """What is traced inside will run there, not on this process's devices; what has been traced before stays as it is.

    For `ANYWHERE`, that is the reference wherever nobody asks for another implementation.
    """
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def current_target() -> Target:
    """That of `traced_for`, or this process's first device."""
    return _target.get() or Target.of(jax.devices()[0])


def choose_implementation(
    operator: str, requested: str | None, available: Sequence[str], *, default: str = XLA, **operands: jax.Array
) -> str:
    """The implementation to run. Where a GPU cannot run the kernel that it should, that is said once, as a warning.

    Args:
        operator: its name, for messages.
        requested: what the caller asks for; None for the fastest that can run.
        available: names of the operator's implementations.
        default: what is chosen where the Triton kernel cannot run.
        **operands: what the kernel reads in the type that it has, by the names that callers know.

    Raises:
        ValueError: there is no such implementation, or the requested one cannot run here.
    """
    target = current_target()
    if requested not in (None, *available):
        raise ValueError(f'{operator} has the implementations {tuple(available)}, not {requested!r}')
    if requested is None and target == ANYWHERE:
        return XLA
    refusal = _kernel_refusal(operands)
    if requested != INTERPRETED:
        refusal = _device_refusal(target) or refusal
    if requested is None and TRITON in available:
        if refusal and target.platform == 'gpu':
            _warn_once(f'{operator} runs in plain XLA, not as a kernel: {refusal}')
        return default if refusal else TRITON
    if requested in (TRITON, INTERPRETED) and refusal:
        raise ValueError(f'{operator}: implementation {requested!r} cannot run: {refusal}')
    return requested or default


def _device_refusal(target: Target) -> str:
    """Why no kernel runs on a device; empty where one can."""
    if target.platform != 'gpu':
        return f'it needs a GPU, this is {target.platform}'
    if target.capability < FIRST_CAPABILITY:
        return f'{target.name} is no NVIDIA GPU of compute capability {FIRST_CAPABILITY[0]}.0 or newer'
    return ''


def _kernel_refusal(operands: dict[str, Any]) -> str:
    """Why no kernel can be lowered for these operands; empty where one can.

    Pallas's Triton is announced to leave JAX after 0.11: the modules of the kernels are imported only where one runs.
    """
    if importlib.util.find_spec('jax.experimental.pallas.triton') is None:
        return f'JAX {jax.__version__} has no Triton for Pallas'
    types = {name: operand.dtype for name, operand in operands.items()}
    for name, dtype in types.items():
        if dtype not in TYPES:
            return f'{name} is {dtype}, not float32, bfloat16 or float16'
    if len(set(types.values())) > 1:
        return ' and '.join(f'{name} is {dtype}' for name, dtype in types.items()) + ': they must have one type'
    return ''


@functools.cache
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=4)

"""Which library computes convolutions and products where JAX runs on a CPU."""

import importlib.metadata
import os
import re

FLAG = '--xla_cpu_experimental_ynn_fusion_type'
TO_EIGEN = f'{FLAG}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,-LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
"""Takes convolutions and products off the list of what YNNPACK computes, and leaves the rest of it as XLA has it.

They can still be its work as part of something else, as where a result is added to a sum over an axis.
"""

VERSIONS = (0, 10), (0, 13)
"""The first jaxlib, and the first no more, with which the flag is set: XLA ends a process over a flag it lacks."""


def choose_eigen() -> None:
    """Has XLA compute convolutions and products on a CPU with Eigen, with which this network is faster than by default.

    It takes effect through the environment variable `XLA_FLAGS`, so it has to be called before JAX compiles anything or
    asks for its devices. Nothing changes where the user has set this flag, where `XLA_FLAGS` names a file of flags, and
    with versions of jaxlib that it has not been tried with. GPUs and TPUs are not concerned.
    """
    flags = os.environ.get('XLA_FLAGS', '').strip()
    is_file = flags and not flags.startswith('-')
    if is_file or FLAG in flags or not _knows_flag():
        return
    os.environ['XLA_FLAGS'] = f'{flags} {TO_EIGEN}'.strip()


def _knows_flag() -> bool:
    try:
        version = importlib.metadata.version('jaxlib')
    except importlib.metadata.PackageNotFoundError:
        return False
    numbers = re.match(r'(\d+)\.(\d+)', version)
    first, end = VERSIONS
    return numbers is not None and first <= tuple(map(int, numbers.groups())) < end

"""What benchmarks share: what they ran on, and functions that run in a process of their own."""

from __future__ import annotations

import concurrent.futures
import datetime
import multiprocessing
import os
import pathlib
import platform
from collections.abc import Callable
from typing import Any


def describe() -> dict[str, Any]:
    """Date, processor (on Linux), cores and Python, for the head of a result."""
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    names = {line.partition(':')[2].strip() for line in lines if line.startswith('model name')}
    return {
        'date': datetime.date.today().isoformat(),
        'cpu': ', '.join(sorted(names)),
        'cores': os.cpu_count(),
        'python': platform.python_version(),
    }


def in_process(function: Callable[..., Any], *arguments: Any, one_core: bool = False) -> Any:
    """The function's result from a new process, all of whose threads share one core if so wished (on Linux)."""
    cores = os.sched_getaffinity(0) if one_core else set()
    try:
        if one_core:
            os.sched_setaffinity(0, {max(cores)})
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        if one_core:
            os.sched_setaffinity(0, cores)

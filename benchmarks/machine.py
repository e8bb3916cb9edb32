"""What benchmarks share: what they ran on, what else ran there, and functions that run in a process of their own."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import multiprocessing
import os
import pathlib
import platform
import resource
import time
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


OTHERS_AT_MOST = 0.1
"""Cores that other programs may use while times are taken; with more, they are not compared."""


@dataclasses.dataclass
class OtherWork:
    """What other programs use of the processors from here on (on Linux, where a host's other guests count too)."""

    start: tuple[float, float] = dataclasses.field(default_factory=lambda: _others_seconds())

    def cores(self) -> float:
        """The average so far; 0 where the system does not say."""
        (then, others_then), (now, others_now) = self.start, _others_seconds()
        return max(others_now - others_then, 0.0) / max(now - then, 1e-9)


def ratio(seconds: float, reference: float, others_cores: float) -> str:
    """`seconds / reference`, which means something only where others have left the processors alone meanwhile."""
    return f'{seconds / reference:.2f}x' if others_cores <= OTHERS_AT_MOST else 'busy'


def processor_seconds() -> float:
    """What this process and those that it has waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _others_seconds() -> tuple[float, float]:
    """The time, and seconds for which processors have worked, or were taken away, but not for this process."""
    now = time.monotonic()
    statistics = pathlib.Path('/proc/stat')
    if not statistics.exists():
        return now, 0.0
    user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(
        int, statistics.read_text().split(maxsplit=9)[1:9]
    )
    busy = user + nice + system + interrupts + soft_interrupts + stolen
    return now, busy / os.sysconf('SC_CLK_TCK') - processor_seconds()


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

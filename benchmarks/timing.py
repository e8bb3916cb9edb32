"""Seconds and peak memory of calls that are compared, taken in turns so that a busy computer slows all of them."""

from __future__ import annotations

import ctypes
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.machine import processor_seconds

STATUS, REFERENCES = pathlib.Path('/proc/self/status'), pathlib.Path('/proc/self/clear_refs')


@dataclasses.dataclass(frozen=True)
class Run:
    """One implementation at work on one case.

    Attributes:
        implementation: its name.
        start: begins the work and returns something to wait for.
        wait: returns when the work is done.
        device_bytes: peak memory that the work takes on its device, where that can be told; None on a CPU, where the
            growth of the process is measured.
    """

    implementation: str
    start: Callable[[], Any]
    wait: Callable[[Any], Any]
    device_bytes: Callable[[], int] | None = None


class Measured(NamedTuple):
    """What a call takes.

    Attributes:
        seconds: by the clock, in the best of the rounds.
        processor_seconds: of this process in that round.
        peak_bytes: outputs among them.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int


def measure(runs: Sequence[Run], rounds: int, calls: int) -> list[Measured]:
    """What a call of every run takes.

    Args:
        runs: what is compared. Each has a call first that does not count, for compilation.
        rounds: how often every run has its turn.
        calls: calls of a turn, begun one after the other and waited for together.
    """
    for run in runs:
        run.wait(run.start())
    peaks = [run.device_bytes() if run.device_bytes else process_growth(run) for run in runs]
    best = [(float('inf'), 0.0)] * len(runs)
    for _ in range(rounds):
        for number, run in enumerate(runs):
            begin, used = time.perf_counter(), processor_seconds()
            for _ in range(calls):
                pending = run.start()
            run.wait(pending)
            taken = (time.perf_counter() - begin) / calls, (processor_seconds() - used) / calls
            best[number] = min(best[number], taken)
    return [Measured(*taken, peak) for taken, peak in zip(best, peaks, strict=True)]


def process_growth(run: Run) -> int:
    """Bytes by which one call lets the resident memory of this process grow at its peak (on Linux)."""
    before, peak = resident_bytes(run)
    return peak - before


def resident_bytes(run: Run) -> tuple[int, int]:
    """Resident memory of this process before one call, and its peak during the call (on Linux)."""
    # What earlier calls left with the allocator would hide the growth; XLA gives back a little after the call.
    time.sleep(0.5)
    ctypes.CDLL(None).malloc_trim(0)
    REFERENCES.write_text('5')  # sets the peak back to what is resident now
    before = _status('VmRSS')
    run.wait(run.start())
    return before, _status('VmHWM')


def _status(field: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f'{field}:'))
    return int(line.split()[1]) * 1024

"""SIGTERM and SIGINT: asked to end, a run finishes its step, saves, and says where."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):
    """A run was asked to end and has saved; started again, it goes on."""


class StopRequest:
    """Listens, as a context, for signals that ask a run to end; a second one ends the process at once.

    Only the main thread of a program can listen; elsewhere nothing is ever requested.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.name = ''  # of the signal; empty before there was one
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in self.SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return bool(self.name)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.name:
            os._exit(128 + number)
        self.name = signal.Signals(number).name
        # Not by `print`, which may be at work where the signal came.
        os.write(2, f'{self.name}: ends after this step and saves; a second signal ends at once\n'.encode())

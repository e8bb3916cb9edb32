"""What a run writes beside its checkpoints: TensorBoard's scalars, and `metrics.jsonl`. A full disk does not end it."""

import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from sognet_jax.files import first_line, write_whole

METRICS = 'metrics.jsonl'


class LogFiles:
    """The files of a run that people and TensorBoard read.

    TensorBoard's file is written at once, not by tensorboardX's thread: that would die of a full disk, and whoever
    writes next would wait for it forever.

    Args:
        workdir: gets `tensorboard/` and `metrics.jsonl`.
        first_step: lines of later steps, which a run that is resumed does again, are forgotten.
        say: is told, once, that a file cannot be written, and that it can be written again.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int, say: Callable[[str], None]) -> None:
        self._tensorboard, self._metrics = workdir / 'tensorboard', workdir / METRICS
        self._say = say
        self._failing: set[pathlib.Path] = set()
        self._events: EventsWriter | None = None
        self._lines = [line for line in _read_lines(self._metrics) if line['step'] <= first_step]

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Gives values to TensorBoard; NaN is left out."""
        self._try(self._tensorboard, lambda: self._write_events(step, values))

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds a line to `metrics.jsonl`; NaN is null."""
        values = {name: None if math.isnan(value) else round(value, 4) for name, value in metrics.items()}
        self._lines = [line for line in self._lines if line['step'] < step] + [{'step': step} | values]
        text = ''.join(json.dumps(line) + '\n' for line in self._lines)
        self._try(self._metrics, lambda: write_whole(self._metrics, text))

    def close(self) -> None:
        """Closes TensorBoard's file."""
        if self._events is not None:
            self._try(self._tensorboard, self._events.close)

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        if self._events is None:
            self._tensorboard.mkdir(parents=True, exist_ok=True)
            self._events = EventsWriter(str(self._tensorboard / 'events'))
        for name, value in values.items():
            if not math.isnan(value):
                scalar = summary.scalar(name, value)
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=scalar))
        self._events.flush()

    def _try(self, path: pathlib.Path, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError as error:
            if path not in self._failing:
                self._say(f'WARNING: {path} cannot be written, training goes on: {first_line(error)}')
            self._failing.add(path)
        else:
            if path in self._failing:
                self._say(f'{path} can be written again')
            self._failing.discard(path)


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of an earlier part of the run; those that are none are left out."""
    lines = []
    for text in path.read_text(errors='replace').splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get('step'), int):
            lines.append(line)
    return lines

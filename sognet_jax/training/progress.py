"""What a running training says: one line with every loss, speed and time left, and TensorBoard scalars."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Mapping

import tensorboardX

from sognet_jax.training.relation import PAIR_COUNTS
from sognet_jax.training.relation_watch import PairShares


class NotFiniteError(FloatingPointError):
    """A loss or the gradient became NaN or infinite; the message names it and the step."""


def check_finite(step: int, metrics: Mapping[str, float]) -> None:
    """Stops a run that has diverged.

    Raises:
        NotFiniteError: naming every metric that is not finite, and the step.
    """
    broken = [f'{name} = {value}' for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise NotFiniteError(
            f'not finite at step {step}: {", ".join(broken)}; '
            'a lower optimizer.learning_rate or optimizer.gradient_clip may help'
        )


class Progress:
    """Averages metrics between two lines and gives them as a line of text and to TensorBoard.

    Losses are means over the steps, what is said of pairs is counted over all of their pairs.

    Args:
        workdir: the run's folder; scalars go to its `tensorboard/`.
        total_steps: steps of the whole run, for the time left.
        first_step: the step the run starts or resumes at.
        batch_size: images per step over all devices.
    """

    def __init__(self, workdir: pathlib.Path, total_steps: int, first_step: int, batch_size: int) -> None:
        self._writer = tensorboardX.SummaryWriter(str(workdir / 'tensorboard'))
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._pending: list[Mapping[str, float]] = []
        self._last_step = first_step
        self._last_time = time.monotonic()

    def add(self, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one step."""
        self._pending.append(metrics)

    def write(self, step: int, learning_rate: float) -> tuple[str, PairShares]:
        """The line of all steps since the last one, and what is to be said of their pairs; both go to TensorBoard."""
        now = time.monotonic()
        seconds = (now - self._last_time) / max(step - self._last_step, 1)
        sums = {name: math.fsum(metrics[name] for metrics in self._pending) for name in self._pending[0]}
        shares = PairShares.of({name: sums.pop(name) for name in PAIR_COUNTS})
        averages = {name: value / len(self._pending) for name, value in sums.items()}
        losses = '  '.join(f'{name} {value:.3f}' for name, value in averages.items())
        of_pairs = {'order_accuracy': shares.order_accuracy, 'pairs_related': shares.related}
        pairs = '  '.join(f'{name} {"-" if math.isnan(value) else f"{value:.1f}"}' for name, value in of_pairs.items())
        left = _duration(seconds * (self._total_steps - step))
        line = (
            f'step {step}/{self._total_steps}  {losses}  {pairs}  lr {learning_rate:.2g}  '
            f'{self._batch_size / seconds:.1f} images/s  {left} left'
        )
        of_pairs['pairs_saturated'] = shares.saturated
        for name, value in (averages | {name: v for name, v in of_pairs.items() if not math.isnan(v)}).items():
            self._writer.add_scalar(f'train/{name}', value, step)
        self._writer.add_scalar('train/learning_rate', learning_rate, step)
        self._writer.add_scalar('train/images_per_second', self._batch_size / seconds, step)
        self._writer.flush()
        self._pending.clear()
        self._last_step, self._last_time = step, now
        return line, shares

    def close(self) -> None:
        """Closes the TensorBoard file."""
        self._writer.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'

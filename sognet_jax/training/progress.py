"""What a running training says: one line with every loss, speed and time left."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping

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
    """Averages what is known of steps between two lines, and times them.

    Losses are means over the steps, what is said of pairs is counted over all of their pairs.

    Args:
        total_steps: steps of the whole run, for the time left.
        first_step: the step the run starts or resumes at.
        batch_size: images per step over all devices.
    """

    def __init__(self, total_steps: int, first_step: int, batch_size: int) -> None:
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._pending: list[Mapping[str, float]] = []
        self._last_step = first_step
        self._last_time = time.monotonic()
        self._waited = self._paused = 0.0

    def add(self, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one step."""
        self._pending.append(metrics)

    @contextlib.contextmanager
    def waits_for_data(self) -> Iterator[None]:
        """Counts the time that passes as waiting for a batch."""
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    @contextlib.contextmanager
    def pauses(self) -> Iterator[None]:
        """Leaves the time that passes, in which nothing is trained, out of the speed."""
        before = time.monotonic()
        yield
        self._paused += time.monotonic() - before

    def line(self, step: int, learning_rate: float, flops_per_step: float) -> tuple[str, PairShares, dict[str, float]]:
        """The line of all steps since the last one, what is to be said of their pairs, and scalars for TensorBoard.

        A step's FLOPs are those of all devices; 0 where they are not known.
        """
        now = time.monotonic()
        elapsed = max(now - self._last_time - self._paused, 1e-9)
        seconds = elapsed / max(step - self._last_step, 1)
        sums = {name: math.fsum(metrics[name] for metrics in self._pending) for name in self._pending[0]}
        shares = PairShares.of({name: sums.pop(name) for name in PAIR_COUNTS})
        averages = {name: value / len(self._pending) for name, value in sums.items()}
        losses = '  '.join(f'{name} {value:.3f}' for name, value in averages.items())
        of_pairs = {'order_accuracy': shares.order_accuracy, 'pairs_related': shares.related}
        pairs = '  '.join(f'{name} {"-" if math.isnan(value) else f"{value:.1f}"}' for name, value in of_pairs.items())
        speed = {'images_per_second': self._batch_size / seconds, 'waiting_for_data': 100 * self._waited / elapsed}
        says = f'{speed["images_per_second"]:.1f} images/s, {speed["waiting_for_data"]:.0f} % waiting for data'
        if flops_per_step:
            speed['flops_per_second'] = flops_per_step / seconds
            says += f', {speed["flops_per_second"] / 1e9:.0f} GFLOP/s'
        left = _duration(seconds * (self._total_steps - step))
        line = f'step {step}/{self._total_steps}  {losses}  {pairs}  lr {learning_rate:.2g}  {says}  {left} left'
        scalars = averages | of_pairs | {'pairs_saturated': shares.saturated, 'learning_rate': learning_rate} | speed
        self._pending.clear()
        self._last_step, self._last_time, self._waited, self._paused = step, now, 0.0, 0.0
        return line, shares, {f'train/{name}': value for name, value in scalars.items()}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'

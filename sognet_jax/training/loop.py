"""The training run: steps, what is said of them, evaluation, checkpoints, interruption, resumption."""

import collections
import contextlib
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from sognet_jax import hosts
from sognet_jax.training.batches import TrainBatches
from sognet_jax.training.interruption import Interrupted, StopRequest
from sognet_jax.training.progress import Progress, check_finite
from sognet_jax.training.relation_watch import RelationWatch
from sognet_jax.training.run import Run, build_run
from sognet_jax.training.run_folder import RunFolder
from sognet_jax.training.step import TrainState, step_flops

Say = Callable[[str], None]

Evaluate = Callable[[Mapping[str, Any], Callable[[], bool]], Mapping[str, float] | None]
"""From variables on the devices, and whether to give up, to metrics in percent; None where it gave up."""

SAID = ('PQ', 'PQ_things', 'PQ_stuff', 'mIoU', 'mask_AP', 'OA', 'order_accuracy', 'order_accuracy_true')
"""Metrics of an evaluation that are said while training; all of them are written."""

AHEAD = 2
"""Steps that are on their way to the devices at any time, so that these never wait for this program."""


def train(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    *,
    say: Say,
    evaluate: Evaluate | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Trains to the state after `config.train.steps`, from the newest checkpoint in `workdir` that is whole on.

    Args:
        config: an experiment of `configs/`.
        workdir: gets `checkpoints/`, `tensorboard/` and `metrics.jsonl`; the first host alone needs it.
        say: gets lines for the console: one every `train.log_every` steps, and warnings.
        evaluate: is called every `train.eval_every` steps, and after the last.
        profile: first and last step of which a trace is written to `workdir/profile`.

    Raises:
        NotFiniteError: a loss became NaN or infinite; the checkpoints before it stay.
        CheckpointError: `workdir` holds checkpoints of another network, or none that is whole, or the last one could
            not be saved.
        InUseError: another training is at work in `workdir`.
        Interrupted: SIGTERM or SIGINT asked it to end, and its state is saved.
        ValueError: the run has been trained for more than `train.steps`, or the hosts do not agree.
        OSError: the disk is too small for the checkpoints.
    """
    workdir = pathlib.Path(workdir).resolve()
    hosts.require_same('the config', config.to_json(sort_keys=True, default=str))
    with RunFolder(config, workdir, say) as folder:
        run = build_run(config, resumes=folder.newest > 0)
        state = folder.restore(run.state)
        first_step = int(state.step)
        steps = config.train.steps
        if first_step > steps:
            raise ValueError(f'config field train.steps = {steps}, but {workdir} has been trained for {first_step}')
        if first_step:
            say(f'goes on from step {first_step} of {steps}: {workdir}')
        # Before there is anything to save, a signal ends the program as it does any other.
        with contextlib.closing(TrainBatches(config, first_step, say)) as batches, StopRequest() as stop:
            loop = _Loop(config, run, folder, batches, stop, first_step, say)
            first_traced, last_traced = profile or (0, 0)
            trace = _Trace(max(first_traced, first_step + 1), min(last_traced, steps), workdir / 'profile')
            with contextlib.closing(trace):
                return loop.run(state, evaluate, trace)


def steps_ahead() -> int:
    """How many steps may be on their way to the devices when the next one is started.

    On CPU devices, pmap can deadlock where steps are not waited for.
    """
    return 0 if jax.local_devices()[0].platform == 'cpu' else AHEAD


class _Trace:
    """A profiler's trace of some steps, on the first host.

    Args:
        first, last: of the steps; none where the last comes before the first.
        folder: gets the trace.
    """

    def __init__(self, first: int, last: int, folder: pathlib.Path) -> None:
        self._first, self._last, self._folder = first, last, folder
        self._is_on = False

    def before(self, step: int) -> None:
        """Begins before the first step."""
        if step == self._first <= self._last and hosts.is_first():
            jax.profiler.start_trace(str(self._folder))
            self._is_on = True

    def after(self, step: int, state: TrainState) -> None:
        """Ends when the last step is done."""
        if step == self._last and self._is_on:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Ends here, where it has not yet."""
        if self._is_on:
            jax.profiler.stop_trace()
        self._is_on = False


class _Loop:
    """Repeats the step, without waiting for the one that was just started (but on CPU devices)."""

    def __init__(
        self, config: ml_collections.ConfigDict, run: Run, folder: RunFolder, batches: TrainBatches, stop: StopRequest,
        first_step: int, say: Say,
    ) -> None:  # fmt: skip
        self._config, self._run, self._folder, self._say = config, run, folder, say
        self._batches, self._stop = batches, stop
        self._ahead = steps_ahead()
        self._any_stop = hosts.SharedFlag(self._ahead)
        self._watch = RelationWatch(config.optimizer.warmup_steps, config.train.silent_lines)
        self._unread: collections.deque[tuple[int, Mapping[str, jax.Array]]] = collections.deque()
        self._next_batch: Mapping[str, jax.Array] | None = None
        self._flops = 0.0
        self._progress = Progress(config.train.steps, first_step, config.batch_size)
        self._next_line = self._line_after(first_step)

    def run(self, state: TrainState, evaluate: Evaluate | None, trace: _Trace) -> TrainState:
        """Trains to the last step; see `train`."""
        settings, first = self._config.train, int(state.step)
        if first < settings.steps:
            self._next_batch = self._load()
            self._flops = step_flops(self._run.step, state, self._next_batch)
        for step in range(first + 1, settings.steps + 1):
            trace.before(step)
            state = self._start_step(step, state)
            trace.after(step, state)
            last, ends = step == settings.steps, self._any_stop(bool(self._stop))
            is_due = settings.eval_every > 0 and (step % settings.eval_every == 0 or last)
            evaluation = evaluate if is_due and not ends else None
            saves = step % settings.checkpoint_every == 0 or last or evaluation is not None or ends
            self._say_lines(step if saves else step - self._ahead)
            if not saves and step % settings.log_every == 0 and self._folder.failure():
                self._fetch(step)  # what is not finite is not saved
                self._folder.save_if_failed(step, state)
            metrics = None
            if saves:
                self._fetch(step)
            if evaluation is not None:
                metrics = self._evaluate(step, state, evaluation)
                ends = metrics is None
            if saves:
                with self._progress.pauses():
                    self._folder.save(step, state, metrics)
            if ends and not last:
                self._next_batch = None  # it lies in memory that is shared with the processes that made it
                place = self._folder.finish(step, state)
                raise Interrupted(f'{self._stop.name or "another host"}: ended after step {step}, saved in {place}')
        if self._watch.warning:
            self._say(self._watch.warning)
        if first < settings.steps:
            self._folder.finish(settings.steps, state)
        return state

    def _start_step(self, step: int, state: TrainState) -> TrainState:
        """Starts a step, has the next batch brought to the devices while it runs, and waits for an earlier one."""
        state, metrics = self._run.step(state, self._next_batch)
        self._unread.append((step, metrics))
        if len(self._unread) > self._ahead:  # what has been read is done
            jax.block_until_ready(self._unread[-1 - self._ahead][1])
        self._next_batch = self._load() if step < self._config.train.steps else None
        return state

    def _load(self) -> Mapping[str, jax.Array]:
        with self._progress.waits_for_data():
            batch = next(self._batches)
        return hosts.along_its_devices(batch)

    def _say_lines(self, known: int) -> None:
        """Says the lines that are due up to a step that the devices are done with, or may be waited for."""
        while self._next_line <= known:
            line_step = self._next_line
            self._fetch(line_step)
            rate = float(self._run.rates[line_step - 1])
            line, shares, scalars = self._progress.line(line_step, rate, self._flops)
            self._say(line)
            self._folder.scalars(line_step, scalars)
            if self._config.objective.weights.relation and self._watch.look(line_step, shares):
                self._say(self._watch.warning)
            self._next_line = self._line_after(line_step)

    def _fetch(self, known: int) -> None:
        """Takes the metrics of the steps up to one from the devices."""
        while self._unread and self._unread[0][0] <= known:
            step, metrics = self._unread.popleft()
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            check_finite(step, values)
            self._progress.add(values)

    def _line_after(self, step: int) -> int:
        every, steps = self._config.train.log_every, self._config.train.steps
        return min((step // every + 1) * every, steps) if step < steps else steps + 1

    def _evaluate(self, step: int, state: TrainState, evaluate: Evaluate) -> Mapping[str, float] | None:
        """What an evaluation says of the state; None where a signal ended it."""
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        with self._progress.pauses():
            try:
                metrics = evaluate(variables, lambda: bool(self._stop))
            except Exception:
                self._folder.save_here(step, state)
                raise
        if metrics is not None:
            summary = '  '.join(
                f'{name} {metrics[name]:.1f}' for name in SAID if math.isfinite(metrics.get(name, math.nan))
            )
            self._say(f'evaluation after step {step}: {summary}')
            self._folder.metrics(step, metrics)
            best = self._config.train.best_metric
            if not math.isfinite(metrics.get(best, math.nan)):
                self._say(f'WARNING: it has no {best} (config field train.best_metric): no checkpoint is the best')
        return metrics

"""The checkpoints of a training run: saved in the background, the newest and the best kept, damaged ones set aside."""

import concurrent.futures
import math
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from sognet_jax.checkpoints.arrays import by_itself, on_the_host, quiet, restore_state, saved_parts
from sognet_jax.checkpoints.description import Description
from sognet_jax.checkpoints.folders import DAMAGED, CheckpointError, DamagedError, checkpoint_folder, steps
from sognet_jax.files import first_line

State = TypeVar('State')


class Checkpoints:
    """The checkpoints of one run, `WORKDIR/checkpoints/STEP`, as its first host has them.

    A thread of this object saves, one checkpoint after the other, and Orbax has none of its own: what fails is known
    here, and nothing that is left waiting keeps the process from ending. Of the checkpoints, the newest (so many as
    `keep` says) and the one that is best by the metric `best` stay.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: int, best: str) -> None:
        self.folder = checkpoint_folder(workdir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._best = best
        self._discard_unfinished()  # Orbax would do it in a thread, which complains if the program ends early
        policies = ocp.checkpoint_managers
        best_one = policies.BestN(get_metric_fn=self._rank, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            create=False,
            enable_async_checkpointing=False,
            best_fn=self._rank,  # what stays is the policy's; without this, Orbax forgets the metrics
            multiprocessing_options=by_itself(),
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best_one]),
        )
        with quiet():
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, 'checkpoints')
        self._saving: concurrent.futures.Future | None = None

    def path(self, step: int) -> pathlib.Path:
        """Where a step's checkpoint lies."""
        return self.folder / str(step)

    def save(self, step: int, state: Any, description: Description, metrics: Mapping[str, float] | None = None) -> None:
        """Starts saving the state, which is copied, once the one before is saved; a step that is there already is left
        out.
        """
        self.wait()
        if step in steps(self.folder):
            return
        parts = saved_parts(on_the_host(state), description)
        self._saving = self._thread.submit(self._save, step, parts, metrics)

    def wait(self) -> None:
        """Until nothing is being saved."""
        if self._saving is not None:
            concurrent.futures.wait([self._saving])

    def failure(self) -> str:
        """Why the last checkpoint could not be saved; empty where it has been, or is being saved."""
        if self._saving is None or not self._saving.done():
            return ''
        error = self._saving.exception()
        return '' if error is None else first_line(error)

    def restore(self, state: State, say: Callable[[str], None]) -> State | None:
        """The newest checkpoint that is whole, a tree of NumPy like `state`, the arrays or shapes that are expected;
        those that are not whole are set aside. None where there is no checkpoint.

        Raises:
            CheckpointError: the checkpoint is of another network, or none is whole.
        """
        damaged = 0
        for step in sorted(steps(self.folder), reverse=True):
            try:
                return restore_state(self.path(step), state)
            except DamagedError as error:
                damaged += 1
                say(f'WARNING: {error}; it is set aside, in {self._set_aside(step)}')
        if damaged:
            raise CheckpointError(f'no checkpoint in {self.folder} is whole; without them, the run would start anew')
        return None

    def require_space(self, state: Any, keep: int) -> None:
        """Refuses to begin where the best checkpoint, the `keep` newest and the one that is being written cannot lie.

        Raises:
            OSError: saying what there is, and what is needed.
        """
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        needed = size * max(keep + 2 - len(steps(self.folder)), 1)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(
                f'{self.folder}: {free / 1e9:.2g} GB are free, the checkpoints of this run need {needed / 1e9:.2g} GB'
            )

    def close(self) -> None:
        """Waits for what is being saved, and closes the files."""
        self.wait()
        self._thread.shutdown()
        self._manager.close()

    def _save(self, step: int, parts: dict[str, Any], metrics: Mapping[str, float] | None) -> None:
        try:
            with quiet():
                self._manager.save(
                    step, args=ocp.args.Composite(**parts), metrics=None if metrics is None else dict(metrics)
                )
        except BaseException:
            self._discard_unfinished()
            self._manager.reload()
            raise

    def _discard_unfinished(self) -> None:
        for unfinished in self.folder.glob('*.orbax-checkpoint-tmp*'):
            shutil.rmtree(unfinished, ignore_errors=True)

    def _rank(self, metrics: Mapping[str, float]) -> float:
        value = metrics.get(self._best)
        return -math.inf if value is None or math.isnan(value) else value

    def _set_aside(self, step: int) -> pathlib.Path:
        folder = self.folder.with_name(DAMAGED)
        folder.mkdir(exist_ok=True)
        target = folder / str(step)
        number = 1
        while target.exists():
            number += 1
            target = folder / f'{step}_{number}'
        self.path(step).rename(target)
        self._manager.reload()
        return target

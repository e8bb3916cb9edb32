"""A run's folder on disk, which the first host reads and writes for all."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Self

import ml_collections
import optax

from sognet_jax import hosts
from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import CheckpointError, Checkpoints, describe, latest_step, require_same_network
from sognet_jax.choices import require_numbers
from sognet_jax.files import Lock
from sognet_jax.training.log_files import LogFiles
from sognet_jax.training.step import TrainState

LOCK = 'training.lock'


class RunFolder:
    """Checkpoints and log files of a run, as a context; nobody else trains in it meanwhile.

    Raises:
        InUseError: another training is at work in it.
        OSError: it cannot be made.
    """

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path, say: Callable[[str], None]) -> None:
        self.path, self._config, self._say = workdir, config, say
        self._checkpoints: Checkpoints | None = None  # of the first host, and so are the others
        self._lock: Lock | None = None
        self._files: LogFiles | None = None
        self.newest = hosts.from_first(self._open)  # step of the newest checkpoint; 0 where there is none

    def restore(self, state: TrainState) -> TrainState:
        """The state of the newest checkpoint that is whole, on the devices; `state` itself where there is none.

        Raises:
            CheckpointError: checkpoints are of another network, or none is whole.
            OSError: the disk is too small for the run's checkpoints.
        """
        restored = hosts.from_first(lambda: self._restore(state))
        state = state if restored is None else hosts.on_its_devices(restored)
        if self._checkpoints is not None:
            self._files = LogFiles(self.path, int(state.step), self._say)
        return state

    def save(self, step: int, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Starts saving the state after a step, with what an evaluation said of it.

        Raises:
            ValueError: the hosts have come to different parameters.
        """
        if hosts.count() > 1:
            hosts.require_same(f'the norm of the parameters after step {step}', float(optax.tree.norm(state.params)))
        self.save_here(step, state, metrics)

    def save_here(self, step: int, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """As `save`, without asking other hosts: they may not have come so far."""
        if self._checkpoints is not None:
            description = describe(self._config, category_set(self._config.categories))
            self._checkpoints.save(step, state, description, metrics)

    def failure(self) -> str:
        """Why the last checkpoint could not be saved; empty where it has been, and on other hosts."""
        return self._checkpoints.failure() if self._checkpoints is not None else ''

    def save_if_failed(self, step: int, state: TrainState) -> None:
        """Says that the last checkpoint could not be saved, where that is so, and starts saving this one."""
        failure = self.failure()
        if failure:
            self._say(f'WARNING: no checkpoint could be saved; tried again after step {step}. {failure}')
            self.save_here(step, state)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Gives values to TensorBoard."""
        if self._files is not None:
            self._files.scalars(step, values)

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps what an evaluation said, in `metrics.jsonl` and, but for single classes, in TensorBoard."""
        if self._files is not None:
            self._files.metrics(step, metrics)
            self._files.scalars(step, {f'eval/{name}': value for name, value in metrics.items() if '/' not in name})

    def finish(self, step: int, state: TrainState) -> pathlib.Path:
        """Waits until the last step is saved, and says where.

        Raises:
            CheckpointError: it could not be saved.
        """
        return hosts.from_first(lambda: self._finish(step, state))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for closable in (self._checkpoints, self._files, self._lock):
            if closable is not None:
                closable.close()

    def _open(self) -> int:
        train = self._config.train
        require_numbers(self._config)
        self._lock = Lock(self.path / LOCK, 'another training is at work here')
        self._checkpoints = Checkpoints(self.path, train.keep, train.best_metric)
        return latest_step(self.path) or 0

    def _restore(self, state: TrainState) -> TrainState | None:
        assert self._checkpoints is not None
        self._checkpoints.require_space(state, self._config.train.keep)
        restored = self._checkpoints.restore(state, self._say)
        if restored is not None:
            require_same_network(self._checkpoints.path(int(restored.step)), self._config)
        return restored

    def _finish(self, step: int, state: TrainState) -> pathlib.Path:
        assert self._checkpoints is not None
        self._checkpoints.wait()
        self.save_if_failed(step, state)
        self._checkpoints.wait()
        failure = self.failure()
        if failure:
            raise CheckpointError(f'the state after step {step} could not be saved: {failure}')
        return self._checkpoints.path(step)

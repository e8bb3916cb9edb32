"""Where checkpoints lie: `RUN/checkpoints/STEP`."""

import pathlib
from typing import Self

from sognet_jax.files import first_line

DAMAGED = 'damaged'
"""Where a run puts checkpoints that cannot be read: `RUN/damaged/STEP`."""


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or does not fit the network; the message names the folder."""


class DamagedError(CheckpointError):
    """A checkpoint is not as it was written."""

    @classmethod
    def of(cls, folder: pathlib.Path, error: BaseException | str) -> Self:
        """What is said of a folder."""
        return cls(f'{folder} is damaged: {first_line(error)}')


def checkpoint_folder(workdir: str | pathlib.Path) -> pathlib.Path:
    """Where the checkpoints of a run lie, as an absolute path (Orbax asks for one)."""
    return pathlib.Path(workdir).resolve() / 'checkpoints'


def latest_step(workdir: str | pathlib.Path) -> int | None:
    """The step of the newest checkpoint of a run; None where it has none."""
    return max(steps(checkpoint_folder(workdir)), default=None)


def run_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The run that a path belongs to: a run's folder itself, its `checkpoints`, or one step of them."""
    path = pathlib.Path(path).resolve()
    if path.name.isdigit() and path.parent.name == 'checkpoints':
        path = path.parent
    return path.parent if path.name == 'checkpoints' else path


def step_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The checkpoint that a path means: one step's folder itself, or the newest of a run.

    Raises:
        CheckpointError: there is none.
    """
    path = pathlib.Path(path).resolve()
    if (path / 'checkpoints').is_dir():
        path = path / 'checkpoints'
    elif path.name.isdigit() and path.is_dir() or (path / 'state').is_dir():
        return path
    newest = max(steps(path), default=None)
    if newest is None:
        raise CheckpointError(f'no checkpoint in {path}')
    return path / str(newest)


def steps(folder: pathlib.Path) -> list[int]:
    """The steps that have a checkpoint in a folder."""
    return [int(child.name) for child in folder.iterdir() if child.name.isdigit()] if folder.is_dir() else []

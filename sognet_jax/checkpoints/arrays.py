"""The arrays of a checkpoint: written, read back, and checked against the sums that were written with them.

Arrays are saved from the host's memory and restored to it, so that a checkpoint knows nothing of the devices that it
comes from, and by one host alone: what is saved is the same on all.
"""

import contextlib
import json
import pathlib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from sognet_jax.checkpoints.description import CHECKSUMS, Description, description_sums, stored_config
from sognet_jax.checkpoints.folders import CheckpointError, DamagedError, step_folder, steps

Tree = TypeVar('Tree')

MOST_TRIES = 5
"""So often a checkpoint is looked for that a running training has just replaced by a newer one."""

STATE = 'state'
"""A checkpoint's parts: the arrays, and the CRC-32 of each, because tensorstore checks its indices alone."""


def on_the_host(tree: Tree) -> Tree:
    """Copies of all arrays in the host's memory, which no device will write to."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def saved_parts(tree: Any, description: Description) -> dict[str, Any]:
    """All that a checkpoint consists of, by name, as Orbax takes it."""
    sums = ocp.args.JsonSave(checksums(tree) | description_sums(description))
    # The arrays come last: without them, nobody takes the folder for a checkpoint.
    return {**description, CHECKSUMS: sums, STATE: ocp.args.StandardSave(tree)}


def checksums(tree: Any) -> dict[str, int]:
    """The CRC-32 of each array's bytes, by its place in the tree."""
    return {_name(path): zlib.crc32(np.ascontiguousarray(leaf).data) for path, leaf in jax.tree.leaves_with_path(tree)}


def save_variables(folder: pathlib.Path, variables: Mapping[str, Any], description: Description) -> None:
    """Writes variables without an optimizer as a checkpoint that `restore_variables` reads.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, saved in saved_parts(on_the_host(dict(variables)), description).items():
        handler = ocp.StandardCheckpointHandler() if name == STATE else ocp.JsonCheckpointHandler()
        with quiet(), ocp.Checkpointer(handler, multiprocessing_options=by_itself()) as checkpointer:
            checkpointer.save(folder / name, args=saved)


def restore_state(folder: pathlib.Path, state: Tree) -> Tree:
    """All arrays of a checkpoint, of NumPy, in a tree like `state`, which is what is expected, as arrays or shapes.

    Raises:
        CheckpointError: the checkpoint is of something else.
        DamagedError: it cannot be read, or is not what was written.
    """
    differences = _differences(stored_shapes(folder), state)
    if differences:
        raise CheckpointError(f'{folder} does not fit this config: {"; ".join(differences[:5])}')
    return _read(folder, state)


def trained_parts(path: str | pathlib.Path) -> set[str]:
    """The parts of the network (`resnet`, `relation_head`, ...) whose parameters a checkpoint holds.

    Raises:
        CheckpointError: there is no checkpoint, or it cannot be read.
    """
    return set(stored_shapes(step_folder(path))['params'])


def restore_variables(
    path: str | pathlib.Path, variables: Mapping[str, Any], *, partly: bool = False
) -> dict[str, Any]:
    """Parameters and frozen normalisation for inference, as arrays of NumPy, in a tree like `variables`.

    Args:
        path: a run's folder, its `checkpoints` folder, or one step's folder.
        variables: variables of the network, as shapes or arrays: what the checkpoint has to fit.
        partly: the checkpoint's network may have parts (`resnet`, `relation_head`, ...) that `variables` do not have.

    Raises:
        CheckpointError: there is no checkpoint, or it is of another network; the message names the first arrays
            that differ.
        DamagedError: it cannot be read, or is not what was written.
    """
    for _ in range(MOST_TRIES):
        folder = step_folder(path)
        try:
            return _restore_variables(folder, variables, partly)
        except DamagedError as error:
            if folder.is_dir():
                raise DamagedError(f'{error}; --older_if_damaged takes the newest that is whole') from error
    raise CheckpointError(f'{path}: a training replaces its checkpoints faster than they can be read')


def newest_whole(path: str | pathlib.Path, say: Callable[[str], None]) -> pathlib.Path:
    """The newest checkpoint of a run that can be read and is what was written; of all of them, if it need be.

    Raises:
        CheckpointError: there is none.
    """
    newest = step_folder(path)
    folders = [newest]
    if newest.name.isdigit():
        older = sorted((step for step in steps(newest.parent) if step < int(newest.name)), reverse=True)
        folders += [newest.parent / str(step) for step in older]
    for folder in folders:
        try:
            stored_config(folder)
            _read(folder, stored_shapes(folder))
            return folder
        except CheckpointError as error:
            say(f'WARNING: {error}')
    raise CheckpointError(f'no checkpoint in {newest.parent} is whole')


def _restore_variables(folder: pathlib.Path, variables: Mapping[str, Any], partly: bool) -> dict[str, Any]:
    stored = stored_shapes(folder)
    params = {k: v for k, v in stored['params'].items() if not partly or k in variables['params']}
    missing = variables['params'].keys() - params.keys()
    if missing:
        raise CheckpointError(f'{folder} is of another network: it has no {", ".join(sorted(missing))}')
    differences = _differences({name: stored.get(name, {}) for name in variables} | {'params': params}, variables)
    if differences:
        listed = '; '.join(differences[:5])
        raise CheckpointError(f'{folder} is of another network ({len(differences)} arrays differ): {listed}')
    restored = _read(folder, stored)
    restored['params'] = {name: restored['params'][name] for name in variables['params']}
    return {name: restored[name] for name in variables}


def stored_shapes(folder: pathlib.Path) -> dict[str, Any]:
    """What lies in one step's folder, a tree of shapes and types; DamagedError where that cannot be told."""
    try:
        with quiet(), ocp.StandardCheckpointer(multiprocessing_options=by_itself()) as checkpointer:
            stored = dict(checkpointer.metadata(folder / STATE).item_metadata.tree)
        return stored | {'params': stored['params']}
    except Exception as error:  # tensorstore and Orbax raise whatever they like
        raise DamagedError.of(folder, error) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Orbax does not narrate what it does, nor what it raises."""
    verbosity, hook = logging.get_verbosity(), sys.unraisablehook
    logging.set_verbosity(logging.FATAL)
    if not isinstance(hook, _NoLateReads):
        sys.unraisablehook = _NoLateReads(hook)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


class _NoLateReads:
    """Keeps quiet about what tensorstore has still read after an error had closed the event loop that waited for it."""

    def __init__(self, hook: Callable[[Any], Any]) -> None:
        self._hook = hook

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != 'Event loop is closed':
            self._hook(unraisable)


def by_itself() -> ocp.options.MultiprocessingOptions:
    """Orbax waits for no other host."""
    if not jax.distributed.is_initialized():  # to ask for the hosts would keep them from being joined later
        return ocp.options.MultiprocessingOptions()
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'{me}')


def _read(folder: pathlib.Path, shapes: Tree) -> Tree:
    try:
        expected = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        with quiet(), ocp.StandardCheckpointer(multiprocessing_options=by_itself()) as checkpointer:
            restored = checkpointer.restore(folder / STATE, expected)
        file = folder / CHECKSUMS / 'metadata'
        # Checkpoints of before there were sums have none.
        wanted = json.loads(file.read_text()) if file.parent.is_dir() else {}
    except Exception as error:
        raise DamagedError.of(folder, error) from error
    found = checksums(restored) if wanted else {}
    wrong = sorted(name for name, value in found.items() if wanted.get(name) != value)
    if wrong:
        raise DamagedError.of(folder, f'{len(wrong)} arrays are not as they were written ({", ".join(wrong[:3])})')
    return restored


def _name(path: Any) -> str:
    """An array's place, the same for a state and for the dictionary that Orbax makes of it."""
    return jax.tree_util.keystr(path, simple=True, separator='/')


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {_name(path): tuple(leaf.shape) for path, leaf in jax.tree.leaves_with_path(tree)}


def _differences(stored: Any, wanted: Any) -> list[str]:
    """Descriptions of the arrays that one side lacks or that have another shape."""
    have, want = _shapes(stored), _shapes(wanted)
    return [
        f'{name}: checkpoint {have.get(name, "missing")}, network {want.get(name, "missing")}'
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name)
    ]

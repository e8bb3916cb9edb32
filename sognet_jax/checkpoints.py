"""Orbax checkpoints: the training state, or variables alone, with the config and the categories that they belong to.

The stream of batches is a function of the seed and the step (`data.examples.pipeline`): the state's step says where it
was.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util

from sognet_jax.categories import CATEGORY_SETS, CategorySet
from sognet_jax.category_files import categories_to_json, category_set

NOT_OF_THE_NETWORK = ('model.dtype', 'model.backbone.frozen_stages')
"""Fields that a trained network may be used with in another way."""

State = TypeVar('State')


class CheckpointError(ValueError):
    """A checkpoint is missing or does not fit the network; the message names the folder."""


Description = Mapping[str, ocp.args.JsonSave]
"""What a checkpoint says of itself, beside its arrays; see `describe`."""


def describe(config: ml_collections.ConfigDict, categories: CategorySet) -> Description:
    """The config and its classes, as a checkpoint holds them."""
    classes = {'categories': categories_to_json(categories)}
    return {'config': ocp.args.JsonSave(_plain(config)), 'categories': ocp.args.JsonSave(classes)}


class Checkpoints:
    """The checkpoints of one run, `WORKDIR/checkpoints/STEP`; saving happens in the background.

    Args:
        workdir: the run's folder.
        keep: how many of the newest checkpoints stay.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: int = 2) -> None:
        self.folder = checkpoint_folder(workdir)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, description: Description) -> None:
        """Starts saving the state after a step; a step that is already there is left out."""
        if step != self.latest_step():
            self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), **description))

    def restore(self, state: State) -> State:
        """The newest checkpoint, or `state` itself where there is none.

        Raises:
            CheckpointError: the checkpoint's arrays do not fit `state`.
        """
        step = self.latest_step()
        if step is None:
            return state
        target = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state))
        try:
            return self._manager.restore(step, args=ocp.args.Composite(state=target))['state']
        except (ValueError, KeyError) as error:
            raise CheckpointError(f'{self.folder / str(step)} does not fit this config: {error}') from error

    def close(self) -> None:
        """Waits for the save in the background and closes the files."""
        self._manager.wait_until_finished()
        self._manager.close()


def save_variables(folder: pathlib.Path, variables: Mapping[str, Any], description: Description) -> None:
    """Writes variables without an optimizer as a checkpoint that `restore_variables` reads.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, saved in description.items():
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            checkpointer.save(folder / name, args=saved)
    # The arrays come last: without them, nobody takes the folder for a checkpoint.
    with _checkpointer() as checkpointer:
        checkpointer.save(folder / 'state', jax.tree.map(np.asarray, dict(variables)))


def checkpoint_folder(workdir: str | pathlib.Path) -> pathlib.Path:
    """Where the checkpoints of a run lie, as an absolute path (Orbax asks for one)."""
    return pathlib.Path(workdir).resolve() / 'checkpoints'


def latest_step(workdir: str | pathlib.Path) -> int | None:
    """The step of the newest checkpoint that a run can go on from; None where it has none."""
    return max(_steps(checkpoint_folder(workdir)), default=None)


def run_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The run that a path belongs to: a run's folder itself, its `checkpoints`, or one step of them."""
    path = pathlib.Path(path).resolve()
    for folder in (path, path.parent):
        if folder.name == 'checkpoints':
            return folder.parent
    return path


def trained_parts(path: str | pathlib.Path) -> set[str]:
    """The parts of the network (`resnet`, `relation_head`, ...) whose parameters a checkpoint holds.

    Args:
        path: see `restore_variables`.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    folder = _step_folder(pathlib.Path(path).resolve())
    with _checkpointer() as checkpointer:
        return set(_stored_state(checkpointer, folder)['params'])


def stored_config(path: str | pathlib.Path) -> ml_collections.ConfigDict:
    """The config that a checkpoint belongs to. Categories of a file of one's own stand in it as a list.

    Args:
        path: see `restore_variables`.

    Raises:
        CheckpointError: there is no checkpoint, or it does not say what it belongs to.
    """
    folder = _step_folder(pathlib.Path(path).resolve())
    try:
        config = ml_collections.ConfigDict(_with_tuples(json.loads((folder / 'config' / 'metadata').read_text())))
        classes = folder / 'categories' / 'metadata'
        if classes.is_file() and config.categories not in CATEGORY_SETS:
            with config.ignore_type():
                config.categories = tuple(json.loads(classes.read_text())['categories'])
    except FileNotFoundError as error:
        raise CheckpointError(f'{folder} does not say what config it belongs to: name it with --config') from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f'{folder}: its config cannot be read: {error}') from error
    return config


def require_same_network(path: str | pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Refuses a config whose network or classes are not those of a checkpoint that says what it belongs to.

    Raises:
        CheckpointError: naming the field, and what either says.
    """
    folder = _step_folder(pathlib.Path(path).resolve())
    if not (folder / 'config' / 'metadata').is_file():
        return
    stored = stored_config(folder)
    theirs, mine = (_network_fields(of) for of in (stored, config))
    for field in sorted(theirs.keys() | mine.keys()):
        if field not in NOT_OF_THE_NETWORK and theirs.get(field) != mine.get(field):
            raise CheckpointError(
                f'config field {field} = {mine.get(field)!r} contradicts {folder}, whose network has '
                f'{theirs.get(field)!r}'
            )
    classes, wanted = (
        [(category.id, category.name) for category in category_set(of.categories).all] for of in (stored, config)
    )
    if classes != wanted:
        raise CheckpointError(f'config field categories = {config.categories!r}: {folder} is of other classes')


def restore_variables(
    path: str | pathlib.Path, variables: Mapping[str, Any], part: str | None = None
) -> dict[str, Any]:
    """Parameters and frozen normalisation for inference.

    Args:
        path: a run's folder, its `checkpoints` folder, or one step's folder.
        variables: variables of the network, as shapes or arrays: what the checkpoint has to fit.
        part: the one part of the network that is wanted, where `variables` have no other.

    Returns:
        Variables like the given ones.

    Raises:
        CheckpointError: there is no checkpoint, or it is of another network; the message names the first arrays
            that differ.
    """
    folder = _step_folder(pathlib.Path(path).resolve())
    with _checkpointer() as checkpointer:
        stored = _stored_state(checkpointer, folder)
        params = stored['params'] if part is None else {k: v for k, v in stored['params'].items() if k == part}
        missing = variables['params'].keys() - params.keys()
        if missing:
            raise CheckpointError(f'{folder} is of another network: it has no {", ".join(sorted(missing))}')
        differences = _differences(stored | {'params': params}, variables)
        if differences:
            listed = '; '.join(differences[:5])
            raise CheckpointError(f'{folder} is of another network ({len(differences)} arrays differ): {listed}')
        # On one device here, on however many it was saved.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), stored)
        restored = checkpointer.restore(folder / 'state', target)
    if part is not None:
        restored['params'] = {part: restored['params'][part]}
    return {name: restored[name] for name in variables}


@contextlib.contextmanager
def _checkpointer() -> Iterator[ocp.StandardCheckpointer]:
    """Orbax's own, which does not narrate what it does: what fails is raised."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            yield checkpointer
    finally:
        logging.set_verbosity(verbosity)


def _stored_state(checkpointer: ocp.StandardCheckpointer, folder: pathlib.Path) -> dict[str, Any]:
    """What lies in one step's folder: a tree of shapes and types."""
    try:
        stored = checkpointer.metadata(folder / 'state').item_metadata.tree
        return dict(stored) | {'params': stored['params']}
    except (FileNotFoundError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f'{folder} holds no readable training state: {error}') from error


def _step_folder(path: pathlib.Path) -> pathlib.Path:
    if (path / 'state').is_dir():
        return path
    if (path / 'checkpoints').is_dir():
        path = path / 'checkpoints'
    steps = _steps(path)
    if not steps:
        raise CheckpointError(f'no checkpoint in {path}')
    return path / str(max(steps))


def _steps(folder: pathlib.Path) -> list[int]:
    """The steps that have a checkpoint in a folder."""
    return [int(child.name) for child in folder.iterdir() if child.name.isdigit()] if folder.is_dir() else []


def _differences(stored: Mapping[str, Any], variables: Mapping[str, Any]) -> list[str]:
    """Descriptions of the arrays that one side lacks or that have another shape."""

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}

    have = shapes({name: stored.get(name, {}) for name in variables})
    want = shapes(dict(variables))
    return [
        f'{name}: checkpoint {have.get(name, "missing")}, network {want.get(name, "missing")}'
        for name in sorted(have.keys() | want.keys())
        if have.get(name) != want.get(name)
    ]


def _with_tuples(value: Any) -> Any:
    """Plain JSON as a config has it: sequences are tuples."""
    if isinstance(value, dict):
        return {name: _with_tuples(entry) for name, entry in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config as JSON knows it."""
    return json.loads(json.dumps(config.to_dict(), default=str))


def _network_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The fields that make the network, by their full names; as stored, so that a list is what a tuple is."""
    return traverse_util.flatten_dict({'model': _with_tuples(_plain(config)['model'])}, sep='.')

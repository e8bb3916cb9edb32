"""What a checkpoint says of itself beside its arrays: its config and its categories."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import orbax.checkpoint as ocp
from flax import traverse_util

from sognet_jax.categories import CATEGORY_SETS, CategorySet
from sognet_jax.category_files import categories_to_json, category_set
from sognet_jax.checkpoints.folders import CheckpointError, step_folder

NOT_OF_THE_NETWORK = ('model.dtype', 'model.backbone.frozen_stages')
"""Fields that a trained network may be used with in another way."""

Description = Mapping[str, ocp.args.JsonSave]
"""What a checkpoint says of itself, beside its arrays; see `describe`."""


def describe(config: ml_collections.ConfigDict, categories: CategorySet) -> Description:
    """The config and its classes, as a checkpoint holds them."""
    classes = {'categories': categories_to_json(categories)}
    return {'config': ocp.args.JsonSave(_plain(config)), 'categories': ocp.args.JsonSave(classes)}


def stored_config(path: str | pathlib.Path) -> ml_collections.ConfigDict:
    """The config that a checkpoint belongs to. Categories of a file of one's own stand in it as a list.

    Args:
        path: see `restore_variables`.

    Raises:
        CheckpointError: there is no checkpoint, or it does not say what it belongs to.
    """
    folder = step_folder(path)
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
    folder = step_folder(path)
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

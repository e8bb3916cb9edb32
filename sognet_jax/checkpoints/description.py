"""What a checkpoint says of itself beside its arrays: its config and its categories."""

import json
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import orbax.checkpoint as ocp
from flax import traverse_util

from sognet_jax.categories import CATEGORY_SETS, CategorySet
from sognet_jax.category_files import categories_to_json, category_set
from sognet_jax.checkpoints.folders import CheckpointError, DamagedError, step_folder

NOT_OF_THE_NETWORK = ('model.dtype', 'model.backbone.frozen_stages', 'model.occlusion.pairs')
"""Fields that a trained network may be used with in another way."""

REQUIRED = {'config': 'model', 'categories': 'categories'}
"""What a part that is whole has."""

CHECKSUMS = 'checksums'
"""The part with the sums of arrays and of the other parts."""

Description = Mapping[str, ocp.args.JsonSave]
"""What a checkpoint says of itself, beside its arrays; see `describe`."""


def describe(config: ml_collections.ConfigDict, categories: CategorySet) -> Description:
    """The config and its classes, as a checkpoint holds them."""
    classes = {'categories': categories_to_json(categories)}
    return {'config': ocp.args.JsonSave(_plain(config)), 'categories': ocp.args.JsonSave(classes)}


def description_sums(description: Description) -> dict[str, int]:
    """The CRC-32 of each part's JSON."""
    return {name: _sum(part.item) for name, part in description.items()}


def stored_config(path: str | pathlib.Path) -> ml_collections.ConfigDict:
    """The config that a checkpoint belongs to. Categories of a file of one's own stand in it as a list.

    Raises:
        CheckpointError: there is no checkpoint, or it does not say what it belongs to.
    """
    folder = step_folder(path)
    if not (folder / 'config').is_dir():
        raise CheckpointError(f'{folder} does not say what config it belongs to: name it with --config')
    config = ml_collections.ConfigDict(_with_tuples(_part(folder, 'config')))
    if (folder / 'categories').is_dir() and config.get('categories') not in CATEGORY_SETS:
        with config.ignore_type():
            config.categories = tuple(_part(folder, 'categories')['categories'])
    return config


def require_same_network(
    path: str | pathlib.Path, config: ml_collections.ConfigDict, *, same_classes: bool = True
) -> None:
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
    if same_classes and classes != wanted:
        raise CheckpointError(f'config field categories = {config.categories!r}: {folder} is of other classes')


def _part(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """A part of what a checkpoint says of itself. Checkpoints of before there were sums are taken as they are."""
    sums = folder / CHECKSUMS / 'metadata'
    try:
        content = json.loads((folder / name / 'metadata').read_bytes())
        wanted = json.loads(sums.read_bytes()) if sums.parent.is_dir() else {}
        is_whole = content.get(REQUIRED[name]) is not None and wanted.get(name, _sum(content)) == _sum(content)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedError.of(folder, error) from error
    if not is_whole:
        raise DamagedError.of(folder, f'its {name} is not as it was written; another one can be named with --config')
    return content


def _sum(content: Any) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


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
    model = _with_tuples(_plain(config)['model'])
    if not model.get('occlusion', {}).get('width'):
        model.pop('occlusion', None)  # no such head, as in checkpoints of before there was one
    return traverse_util.flatten_dict({'model': model}, sep='.')

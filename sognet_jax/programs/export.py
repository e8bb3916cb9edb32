"""Exports a checkpoint: `sognet-export --checkpoint=runs/shapes --output=DIR --platforms=cpu,cuda`.

Its inference parameters, and the inference function as an artifact that needs JAX alone.
"""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import flags
from flax import traverse_util
from jax import export as jax_export

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import categories_to_json, category_set
from sognet_jax.checkpoints import describe, save_variables
from sognet_jax.data.configured import example_settings
from sognet_jax.files import require_new_folder, write_whole
from sognet_jax.inference.prediction import WITHOUT_PANOPTIC_HEAD, Inference, predict
from sognet_jax.kernels.choice import ANYWHERE, traced_for
from sognet_jax.models.sognet import SOGNet
from sognet_jax.predictor import restore_network
from sognet_jax.programs import command_line

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
WEIGHTS = 'weights.npz'

Outputs = dict[str, jax.Array]

OUTPUTS = {
    'panoptic': '[B, H, W] int32: 0..S-1 stuff, S + k instance k, -1 void',
    'boxes': '[B, K, 4] float32: x1, y1, x2, y2 of each instance in pixels of the input, half open',
    'classes': '[B, K] int32: thing class 0..T-1',
    'scores': '[B, K] float32',
    'valid': '[B, K] bool: instances that are there',
    'relations': '[B, K, K] float32: O, > 0 at (i, j) where instance i is covered by j',
}


def export(
    config: ml_collections.ConfigDict,
    checkpoint: str | pathlib.Path,
    output: str | pathlib.Path,
    *,
    platforms: Sequence[str] = ('cpu',),
    batch_size: int = 1,
    weights_inside: bool = True,
) -> list[pathlib.Path]:
    """Writes the parameters as a checkpoint, the inference function for each size of the input, and `export.json`;
    gives the files of the function.

    Args:
        checkpoint: a run's folder, or one of its checkpoints.
        output: a new or empty folder.
        platforms: what the function shall run on, of `PLATFORMS`.
        batch_size: images that it takes at once.
        weights_inside: they are constants of the function; otherwise its first argument, in `weights.npz`.

    Raises:
        ValueError: the folder has something in it, a platform is unknown, or the method has no panoptic head.
        CheckpointError: there is no checkpoint, or it does not fit the config.
    """
    output = pathlib.Path(output).resolve()
    require_new_folder(output)
    for platform in platforms:
        if platform not in PLATFORMS:
            raise ValueError(f'--platforms: {platform!r} is none of {PLATFORMS}')
    inference, categories = Inference(**config.inference), category_set(config.categories)
    if inference.method in WITHOUT_PANOPTIC_HEAD:
        raise ValueError(f'config field inference.method = {inference.method!r} works on the host: it has no function')
    network, variables = restore_network(config, categories, checkpoint)
    # What cannot be traced leaves nothing behind.
    artifacts = {}
    height, width = example_settings(config).image_size
    for size in sorted({(height, width), (width, height)}):  # either orientation of the bucket
        function, arguments = _function(network, variables, inference, (batch_size, *size), weights_inside)
        with traced_for(ANYWHERE):
            exported = jax_export.export(jax.jit(function), platforms=tuple(platforms))(*arguments)
        artifacts[output / f'inference_{size[0]}x{size[1]}.stablehlo'] = bytes(exported.serialize())
    save_variables(output, variables, describe(config, categories))
    for file, artifact in artifacts.items():
        write_whole(file, artifact)
    if not weights_inside:
        np.savez(output / WEIGHTS, **_flat(jax.device_get(variables)))
    files = list(artifacts)
    about = _about(config, categories, files, platforms, batch_size, weights_inside)
    write_whole(output / 'export.json', json.dumps(about, indent=2) + '\n')
    return files


def _function(
    network: SOGNet, variables: dict[str, Any], inference: Inference, shape: tuple[int, int, int], weights_inside: bool
) -> tuple[Callable[..., Outputs], tuple[Any, ...]]:
    """The inference function, and the shapes of its arguments."""

    def segment(network: SOGNet, image: jax.Array, image_size: jax.Array) -> Outputs:
        found = predict(network, image, image_size, inference)
        instances = found.instances
        return {
            'panoptic': jnp.asarray(found.panoptic),
            'boxes': instances.boxes,
            'classes': instances.classes,
            'scores': instances.scores,
            'valid': instances.valid,
            'relations': found.relations,
        }

    run = nn.apply(segment, network)
    images = jax.ShapeDtypeStruct((*shape, 3), jnp.uint8), jax.ShapeDtypeStruct((shape[0], 2), jnp.int32)
    if weights_inside:
        return functools.partial(run, variables), images
    flat = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in _flat(variables).items()}
    return lambda weights, *arguments: run(traverse_util.unflatten_dict(weights, sep='/'), *arguments), (flat, *images)


def _flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.flatten_dict(variables, sep='/')


def _about(
    config: ml_collections.ConfigDict,
    categories: CategorySet,
    files: Sequence[pathlib.Path],
    platforms: Sequence[str],
    batch_size: int,
    weights_inside: bool,
) -> dict[str, Any]:
    """What `export.json` says."""
    data = config.data
    return {
        'functions': [file.name for file in files],
        'platforms': list(platforms),
        'weights': 'inside' if weights_inside else f'{WEIGHTS}, the first argument: a dict of its arrays by name',
        'inputs': {
            'image': f'[{batch_size}, H, W, 3] uint8 RGB, at the left and top of zeros; not normalised',
            'image_size': f'[{batch_size}, 2] int32, height and width of the part that is no padding',
        },
        'resizing': {
            'short_side': data.short_side,
            'long_side': data.long_side,
            'rule': 'short_side / shorter side, or long_side / longer where that would be more; it has to fit H, W',
        },
        'outputs': OUTPUTS,
        'num_stuff': categories.num_stuff,
        'stuff_area_limit': config.inference.stuff_area_limit,
        'categories': categories_to_json(categories),
        'versions': {'jax': jax.__version__, 'flax': flax.__version__, 'jaxlib': metadata.version('jaxlib')},
    }


def start() -> None:
    """Runs `export.py`."""
    flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.', required=True)
    flags.DEFINE_string('output', None, 'Folder for the export, new or empty.', required=True)
    flags.DEFINE_list('platforms', ['cpu'], f'What the function shall run on, of {", ".join(PLATFORMS)}.')
    flags.DEFINE_integer('batch_size', 1, 'Images that the function takes at once.', lower_bound=1)
    flags.DEFINE_bool('weights_inside', True, 'The weights are in the function; otherwise in weights.npz beside it.')
    command_line.run(_main)


def _main(_: Sequence[str]) -> None:
    given = flags.FLAGS
    files = export(
        given.config, given.checkpoint, given.output, platforms=given.platforms,
        batch_size=given.batch_size, weights_inside=given.weights_inside,
    )  # fmt: skip
    print(f'{given.output}: a checkpoint, export.json, {", ".join(file.name for file in files)}')


if __name__ == '__main__':
    start()

"""Segments images: `sognet-predict --checkpoint=runs/shapes --output=DIR images...`.

Pictures, panoptic PNGs, and a description of all of them as JSON.
"""

import json
import os
import pathlib
from collections.abc import Sequence

import ml_collections
from absl import app, flags
from tqdm import tqdm

from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import ExampleSettings
from sognet_jax.data.records.images import ImageError, find_images, read_image
from sognet_jax.data.records.png import encode_image
from sognet_jax.files import require_folder, write_whole
from sognet_jax.id_maps import encode_ids
from sognet_jax.predictor.predictor import Predictor, require_image
from sognet_jax.programs import command_line

LONGEST_NAME = 255
"""Bytes that file systems take."""


def predict_images(
    config: ml_collections.ConfigDict,
    checkpoint: str | pathlib.Path,
    output: str | pathlib.Path,
    paths: Sequence[str | pathlib.Path],
) -> int:
    """Segments images; writes `predictions.json`, and for each image `pictures/NAME.png` and `panoptic/NAME.png`.

    Nothing is written before all images and the checkpoint have been found to be readable; `predictions.json` comes
    last, and no file is ever there in part.

    Args:
        checkpoint: a run's folder or one step of it.
        paths: images, and folders of images.

    Returns:
        How many images there were.

    Raises:
        ImageError: an image is missing or broken, a folder has none, or two images would have results of one name.
        CheckpointError: there is no checkpoint, or it does not fit the config.
        NotADirectoryError: `output` is a file.
    """
    output = pathlib.Path(output)
    require_folder(output)
    images = find_images(paths)
    _check(images, example_settings(config))
    model = Predictor(config, checkpoint)
    entries = []
    for path in tqdm(images, desc='predict', unit='image'):
        scene = model(read_image(path))
        files = {'panoptic': f'panoptic/{path.stem}.png', 'picture': f'pictures/{path.stem}.png'}
        write_whole(output / files['panoptic'], encode_ids(scene.panoptic))
        write_whole(output / files['picture'], encode_image(scene.picture()))
        entries.append({'file': str(path)} | files | scene.to_dict())
    lines = ',\n'.join(json.dumps(entry) for entry in entries)
    write_whole(output / 'predictions.json', f'{{"images": [\n{lines}\n]}}\n')
    return len(images)


def _check(images: Sequence[pathlib.Path], settings: ExampleSettings) -> None:
    """Reads every image once, so that a broken one is known before anything is written.

    Raises:
        ImageError: an image is broken or far too narrow, or results would have the name of others, or one too long.
    """
    stems: dict[str, pathlib.Path] = {}
    for path in images:
        other = stems.setdefault(path.stem, path)
        if other is not path:
            raise ImageError(f'{other} and {path} would have results of one name: {path.stem}.png')
        if len(os.fsencode(f'{path.stem}.png')) > LONGEST_NAME:
            raise ImageError(f'{path}: this name is too long for {path.stem}.png')
    for path in tqdm(images, desc='check', unit='image', delay=2):
        image = read_image(path)
        try:
            require_image(image, settings)
        except ValueError as error:
            raise ImageError(f'{path}: {error}') from error


def start() -> None:
    """Runs `predict.py`."""
    flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.', required=True)
    flags.DEFINE_string('output', None, 'Folder for the results.', required=True)
    command_line.run(_main, takes_arguments=True)


def _main(images: Sequence[str]) -> None:
    given = flags.FLAGS
    if not images:
        raise app.UsageError('no images: name files, or folders of images, behind the flags')
    count = predict_images(given.config, given.checkpoint, given.output, images)
    print(f'{given.output}/predictions.json, and pictures and panoptic PNGs of {count} images beside it')


if __name__ == '__main__':
    start()

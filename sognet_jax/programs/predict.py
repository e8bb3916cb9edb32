"""Segments images: `sognet-predict --checkpoint=runs/shapes --output=DIR images...`.

Panoptic PNGs and a description of all of them as JSON; and, in the formats that are asked for, who lies on whom.
"""

import os
import pathlib
import re
from collections.abc import Callable, Sequence

import ml_collections
from absl import app, flags
from tqdm import tqdm

from sognet_jax.choices import require_choice
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import ExampleSettings
from sognet_jax.data.records.images import ImageError, find_images, read_image
from sognet_jax.data.records.png import encode_image
from sognet_jax.files import encode_entries, require_folder, write_whole
from sognet_jax.id_maps import encode_ids
from sognet_jax.order.entry import encode_graph
from sognet_jax.order.openraster import encode_openraster
from sognet_jax.predictor.predictor import Predictor, require_image
from sognet_jax.predictor.results import Entry, coco_results, image_ids, scene_order
from sognet_jax.programs import command_line
from sognet_jax.scene import Scene

LONGEST_NAME = 255
"""Bytes that file systems take."""

UNWRITABLE = re.compile('[\x00-\x1f\ud800-\udfff\ufffe\uffff]')
"""Control characters, and what Python makes of bytes that are no UTF-8."""

FILES: dict[str, tuple[str, Callable[[Scene, Entry], str | bytes]]] = {
    'panoptic': ('panoptic/{}.png', lambda scene, order: encode_ids(scene.panoptic)),
    'picture': ('pictures/{}.png', lambda scene, order: encode_image(scene.picture())),
    'graphml': ('graphs/{}.graphml', lambda scene, order: encode_graph(order)),
    'ora': ('layers/{}.ora', lambda scene, order: encode_openraster(scene, order['instances'])),
}
"""What there can be of an image: the name, and what is written of a scene and of who lies on whom in it."""

FORMATS = ('json', 'picture', 'graphml', 'ora', 'coco')
USUAL_FORMATS = ('json', 'picture')


def predict_images(
    config: ml_collections.ConfigDict,
    checkpoint: str | pathlib.Path,
    output: str | pathlib.Path,
    paths: Sequence[str | pathlib.Path],
    formats: Sequence[str] = USUAL_FORMATS,
) -> int:
    """Segments images; writes `predictions.json`, and for each image `panoptic/NAME.png`; says how many there were.

    Nothing is written before all images and the checkpoint have been found to be readable; `predictions.json` comes
    last, and no file is ever there in part.

    Args:
        checkpoint: a run's folder or one step of it.
        paths: images, and folders of images.
        formats: what else is written: `json` is `order.json`, `coco` is `coco_results.json`; `picture`, `graphml` and
            `ora` are for each image `pictures/NAME.png`, `graphs/NAME.graphml` and `layers/NAME.ora`.

    Raises:
        ImageError: an image is missing or broken, a folder has none, or two images would have results of one name.
        CheckpointError: there is no checkpoint, or it does not fit the config.
        NotADirectoryError: `output` is a file.
        ValueError: there is no such format.
    """
    for name in formats:
        require_choice('--formats', name, FORMATS)
    output = pathlib.Path(output)
    require_folder(output)
    images = find_images(paths)
    _check(images, example_settings(config))
    model = Predictor(config, checkpoint)
    for earlier in ('predictions.json', 'order.json', 'coco_results.json'):
        (output / earlier).unlink(missing_ok=True)
    entries, orders, detections = [], [], []
    for path, image_id in tqdm(zip(images, image_ids(images), strict=True), 'predict', len(images), unit='image'):
        scene = model(read_image(path))
        order = scene_order(path.name, scene)
        files = {kind: name.format(path.stem) for kind, (name, _) in FILES.items() if kind in ('panoptic', *formats)}
        for kind, name in files.items():
            write_whole(output / name, FILES[kind][1](scene, order))
        entries.append({'file': str(path)} | files | scene.to_dict())
        orders.append(order)
        if 'coco' in formats:
            detections += coco_results(image_id, scene, order)
    if 'json' in formats:
        write_whole(output / 'order.json', f'{{"images": {encode_entries(orders)}}}\n')
    if 'coco' in formats:
        write_whole(output / 'coco_results.json', f'{encode_entries(detections)}\n')
    write_whole(output / 'predictions.json', f'{{"images": {encode_entries(entries)}}}\n')
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
        if len(os.fsencode(f'{path.stem}.graphml')) > LONGEST_NAME:
            raise ImageError(f'{path}: this name is too long for {path.stem}.graphml')
        if UNWRITABLE.search(path.name):
            raise ImageError(f'{str(path)!r}: this name has characters that neither JSON nor XML can hold')
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
    flags.DEFINE_list('formats', list(USUAL_FORMATS), f'What is written: some of {", ".join(FORMATS)} (docs/order.md).')
    command_line.run(_main, takes_arguments=True)


def _main(images: Sequence[str]) -> None:
    given = flags.FLAGS
    if not images:
        raise app.UsageError('no images: name files, or folders of images, behind the flags')
    count = predict_images(given.config, given.checkpoint, given.output, images, given.formats)
    print(f'{given.output}/predictions.json; panoptic PNGs and {", ".join(given.formats)} of {count} images beside it')


if __name__ == '__main__':
    start()

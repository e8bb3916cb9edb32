"""Prediction for images without annotations: pictures, panoptic PNGs, and a description of all of them as JSON."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import flax.linen as nn
import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import ExampleSettings, make_example, oriented, resize_factor
from sognet_jax.data.records.images import ImageError, find_images, image_record
from sognet_jax.data.records.png import encode_image
from sognet_jax.data.records.schema import Record
from sognet_jax.files import write_whole
from sognet_jax.id_maps import encode_ids
from sognet_jax.inference.predictor import Inference, Prediction, predict
from sognet_jax.inference.result import Frame, Segmenter
from sognet_jax.inference.scene import Scene, describe_scene
from sognet_jax.models.sognet import SOGNet
from sognet_jax.training.network_results import restore_network
from sognet_jax.training.pictures import PREDICTED
from sognet_jax.visualization import (
    PanopticPicture,
    compose,
    inner_points,
    overlap_graph,
    overlap_matrix,
    panoptic_overlay,
    write_names,
)

Describe = Callable[[Record], Scene]

PANEL = (600, 720)
"""Largest height and width of a panel in pixels."""

SHORTEST_SIDE = 8
"""Images with a shorter side, in pixels of the network input, cannot be segmented."""

MATRIX_ROW = 14
"""Pixels that a row of the matrix needs for its name to be readable."""


def predict_images(
    config: ml_collections.ConfigDict,
    checkpoint: str | pathlib.Path,
    output: str | pathlib.Path,
    paths: Sequence[str | pathlib.Path],
) -> None:
    """Segments images; writes `predictions.json`, and for each image `pictures/NAME.png` and `panoptic/NAME.png`.

    Nothing is written before all images and the checkpoint have been found to be readable; `predictions.json` comes
    last, and no file is ever there in part.

    Args:
        config: an experiment of `configs/`.
        checkpoint: a run's folder or one step of it.
        output: folder for the results.
        paths: images, and folders of images.

    Raises:
        ImageError: an image is missing or broken, a folder has none, or two images would have results of one name.
        CheckpointError: there is no checkpoint, or it does not fit the config.
        NotADirectoryError: `output` is a file.
    """
    output = pathlib.Path(output)
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f'{output}: the results need a folder, this is a file')
    categories = category_set(config.categories)
    images = find_images(paths)
    _check(images, example_settings(config))
    describe = _describer(config, *restore_network(config, checkpoint))
    entries = []
    for index, path in enumerate(tqdm(images, desc='predict', unit='image')):
        record = image_record(path, index)
        scene = describe(record)
        picture = prediction_picture(record.image(), scene, categories)
        files = {'panoptic': f'panoptic/{path.stem}.png', 'picture': f'pictures/{path.stem}.png'}
        write_whole(output / files['panoptic'], encode_ids(scene.ids))
        write_whole(output / files['picture'], encode_image(picture))
        entries.append({'file': str(path)} | files | scene_entry(scene, categories))
    lines = ',\n'.join(json.dumps(entry) for entry in entries)
    write_whole(output / 'predictions.json', f'{{"images": [\n{lines}\n]}}\n')
    print(f'{output / "predictions.json"}, and pictures and panoptic PNGs of {len(images)} images beside it')


def scene_entry(scene: Scene, categories: CategorySet) -> dict[str, Any]:
    """What `predictions.json` says about one image: size, segments and overlap pairs."""
    return {
        'height': scene.ids.shape[0],
        'width': scene.ids.shape[1],
        'segments': [
            {
                'id': segment.id,
                'class': categories.all[segment.category].name,
                'thing': segment.instance >= 0,
                'score': None if segment.score is None else round(segment.score, 4),
                'area': segment.area,
                'box': segment.box,
            }
            for segment in scene.segments
        ],
        'overlaps': [overlap._asdict() | {'strength': round(overlap.strength, 4)} for overlap in scene.overlaps],
    }


def prediction_picture(image: np.ndarray, scene: Scene, categories: CategorySet) -> np.ndarray:
    """The image and its segments above; who covers whom as a graph and as the matrix O below.

    Args:
        image: `[h, w, 3]` uint8 RGB.
        scene: the result for it.
        categories: names and colours.
    """
    names = [categories.all[segment.category].name for segment in scene.instances]
    label_length = max([13, *(len(f'{index} {name}') for index, name in enumerate(names))])
    panoptic = PanopticPicture(scene.ids, {s.id: (s.category, s.instance) for s in scene.segments})
    height = min(PANEL[0], round(PANEL[1] * image.shape[0] / image.shape[1]))
    plain = _reduced(image, height)
    overlay = write_names(panoptic_overlay(plain, panoptic, categories, height=height), panoptic, categories)
    # A matrix of many rows, and the graph beside it, are larger.
    side = max(height, PANEL[0] // 2, 2 * MATRIX_ROW + len(names) * MATRIX_ROW + 6 * label_length)
    matrix = overlap_matrix(scene.relations, names, size=side, color=PREDICTED, label_length=label_length)
    return compose(
        [
            [
                ('image', panoptic_overlay(plain, _nothing(image), categories, height=height, opacity=0.0)),
                ('segments', overlay),
            ],
            [
                ('who covers whom: arrows point to what is covered', _graph(image, scene, side)),
                ('O: row is covered by column', matrix),
            ],
        ]
    )


def _check(images: Sequence[pathlib.Path], settings: ExampleSettings) -> None:
    """Reads every image once, so that a broken one is known before anything is written.

    Raises:
        ImageError: an image is broken or far too narrow, or two images would have results of one name.
    """
    stems: dict[str, pathlib.Path] = {}
    for path in images:
        other = stems.setdefault(path.stem, path)
        if other is not path:
            raise ImageError(f'{other} and {path} would have results of one name: {path.stem}.png')
    for index, path in enumerate(tqdm(images, desc='check', unit='image', delay=2)):
        size = image_record(path, index).image().shape[:2]
        if min(size) * resize_factor(size, oriented(settings, size)) < SHORTEST_SIDE:
            raise ImageError(f'{path}: an image of {size[1]} x {size[0]} pixels is too narrow for the network')


def _describer(config: ml_collections.ConfigDict, network: SOGNet, variables: dict[str, Any]) -> Describe:
    """The function from a record to its result; at most two programs are compiled, one for each orientation."""
    settings = example_settings(config)
    inference = Inference(**config.inference)
    segmenter = Segmenter(inference, category_set(config.categories))

    def infer(network: SOGNet, image: jax.Array, image_size: jax.Array) -> Prediction:
        return predict(network, image, image_size, inference)

    run = jax.jit(nn.apply(infer, network))

    def describe(record: Record) -> Scene:
        example = make_example(record, settings, either_orientation=True)
        prediction = jax.device_get(run(variables, example['image'][None], example['image_size'][None]))
        return describe_scene(jax.tree.map(lambda value: value[0], prediction), segmenter, Frame.of(example))

    return describe


def _graph(image: np.ndarray, scene: Scene, height: int) -> np.ndarray:
    """The overlap graph with its nodes on what is visible of the instances, on white paper of this height."""
    image_height, image_width = image.shape[:2]
    graph_height = min(height, round(2 * PANEL[1] * image_height / image_width))
    picture = _reduced(image, graph_height)
    scale = np.array([picture.shape[1] / image_width, picture.shape[0] / image_height])
    boxes = np.array([segment.box for segment in scene.instances], np.float64).reshape(-1, 2, 2) * scale
    points = inner_points(cv2.resize(scene.ids, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST))
    # What is too small to be seen in the picture has its node in the middle of its box.
    nodes = [
        points.get(segment.id, tuple(box.mean(axis=0))) for segment, box in zip(scene.instances, boxes, strict=True)
    ]
    nodes = np.array(nodes, np.float64).reshape(-1, 2)
    graph = overlap_graph(picture, boxes.reshape(-1, 4), scene.relations, height=graph_height, nodes=nodes)
    return np.pad(graph, ((0, height - graph_height), (0, 0), (0, 0)), constant_values=255)


def _reduced(image: np.ndarray, height: int) -> np.ndarray:
    """The image at this height if it is higher, without the noise of leaving pixels out."""
    if image.shape[0] <= height:
        return image
    width = max(round(image.shape[1] * height / image.shape[0]), 1)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _nothing(image: np.ndarray) -> PanopticPicture:
    return PanopticPicture(np.zeros(image.shape[:2], np.int32), {})

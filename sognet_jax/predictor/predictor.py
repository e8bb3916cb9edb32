"""A trained network as a function of an image."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, overload

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import stored_config
from sognet_jax.contract import Example
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import ExampleSettings, image_arrays, oriented, resize_factor
from sognet_jax.inference.prediction import Inference, Prediction, predict
from sognet_jax.inference.result import Frame, Segmenter
from sognet_jax.models.sognet import SOGNet
from sognet_jax.order.layers import order_layers
from sognet_jax.order.rules import pairs_taking_part
from sognet_jax.pictures.prediction import prediction_picture
from sognet_jax.predictor import restore_network
from sognet_jax.predictor.relations import relate_instances
from sognet_jax.scene import Scene

SHORTEST_SIDE = 8
"""Images with a shorter side, in pixels of the network input, cannot be segmented."""


class Predictor:
    """Segments images and says who covers whom. A program is compiled for either orientation, once.

    Args:
        config: of the network; its `data` section says to what size images are brought.
        checkpoint: a run's folder, or one of its checkpoints.

    Raises:
        CheckpointError: there is no checkpoint, or it does not fit the config.
        ValueError: a field of the config has a value that cannot be used.
    """

    def __init__(self, config: ml_collections.ConfigDict, checkpoint: str | pathlib.Path) -> None:
        self.config = config
        self.categories: CategorySet = category_set(config.categories)
        self._settings, inference = example_settings(config), Inference(**config.inference)
        self._segmenter = Segmenter(inference, self.categories)
        self._network, self._variables = restore_network(config, self.categories, checkpoint)

        def infer(network: SOGNet, image: jax.Array, image_size: jax.Array) -> Prediction[jax.Array]:
            return predict(network, image, image_size, inference)

        self._run = jax.jit(nn.apply(infer, self._network))

    @overload
    def __call__(self, image: np.ndarray) -> Scene: ...

    @overload
    def __call__(self, image: Sequence[np.ndarray]) -> list[Scene]: ...

    def __call__(self, image: np.ndarray | Sequence[np.ndarray]) -> Scene | list[Scene]:
        """The scene of an image `[h, w, 3]` uint8 RGB, of any size, or of each of several.

        Raises:
            ValueError: it is something else, or far too narrow.
        """
        if isinstance(image, (list, tuple)):
            return [self(one) for one in image]
        image = np.asarray(image)
        example = self.prepare(image)
        prediction = jax.device_get(self._run(self._variables, example['image'][None], example['image_size'][None]))
        of_image = jax.tree.map(lambda value: value[0], prediction)
        scene = self._segmenter(of_image, Frame.of(example))
        return dataclasses.replace(scene, image=image, painter=prediction_picture, layerer=_layers)

    def order(
        self, image: np.ndarray, masks: Sequence[np.ndarray], classes: Sequence[str], pairs: str = 'related'
    ) -> np.ndarray:
        """O of anybody's instances, by the relation head alone, `[n, n]` float32: i is covered by j.

        Args:
            image: `[h, w, 3]`, of which the size matters alone.
            masks, classes: `[h, w]`, bool or above 0.5, and name, one of `categories.things`, of the n instances.
            pairs: which take part, one of `order.rules.PAIRS`; where no masks overlap, none is `'related'`.

        Raises:
            ValueError: a mask is of another size than the image, a class is unknown, or there is not one for each.
        """
        if len(masks) != len(classes):
            raise ValueError(f'{len(masks)} masks, but {len(classes)} classes')
        if other := [list(mask.shape) for mask in masks if mask.shape != image.shape[:2]]:
            raise ValueError(f'a mask is {other[0]}, the image {list(image.shape[:2])}')
        rles = [coco_mask.encode(np.asfortranarray(np.asarray(mask) > 0.5, np.uint8)) for mask in masks]
        part = pairs_taking_part(pairs, rles, rles)
        return relate_instances(self._network, self._variables, self.categories, rles, classes, part)

    def prepare(self, image: np.ndarray) -> Example:
        """What the network gets of an image: `image`, `image_size`, `scale` and `original_size` of the data contract.

        Raises:
            ValueError: as when it is called.
        """
        require_image(image, self._settings)
        size = (image.shape[0], image.shape[1])
        settings = oriented(self._settings, size)
        scale = resize_factor(size, settings)
        sizes: Example = {'scale': np.asarray(scale, np.float32), 'original_size': np.array(size, np.int32)}
        return {**image_arrays(image, scale, settings), **sizes}


def _layers(ids: list[int], relations: np.ndarray) -> list[list[int]]:
    return order_layers(ids, relations).layers


def load(checkpoint: str | pathlib.Path, **inference: Any) -> Predictor:
    """The network of a checkpoint, as a function of an image.

    Args:
        checkpoint: a run's folder, one of its checkpoints, or a converted or exported one.
        **inference: fields of the config's `inference` section in place of the checkpoint's: `score_threshold=0.3`.

    Raises:
        CheckpointError: there is no checkpoint, or it does not say what config it belongs to.
        ValueError: there is no such field, or it has a value that cannot be used.
    """
    config = stored_config(checkpoint)
    for field, value in inference.items():
        if field not in config.inference:
            raise ValueError(f'inference has no field {field!r}; it has {", ".join(sorted(config.inference))}')
        config.inference[field] = value
    return Predictor(config, checkpoint)


def require_image(image: np.ndarray, settings: ExampleSettings) -> None:
    """Refuses what is no image `[h, w, 3]` uint8, or one that is far too narrow.

    Raises:
        ValueError: saying what it is.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f'an image is [height, width, 3] uint8 (RGB), not {list(image.shape)} {image.dtype}')
    height, width = image.shape[:2]
    if min(height, width) * resize_factor((height, width), oriented(settings, (height, width))) < SHORTEST_SIDE:
        raise ValueError(f'an image of {width} x {height} pixels is too narrow for the network')

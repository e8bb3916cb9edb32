"""What a trained network says of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import ml_collections

from sognet_jax.categories import CategorySet
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import make_example
from sognet_jax.data.records.schema import Record
from sognet_jax.inference.prediction import Inference, Prediction, predict
from sognet_jax.inference.result import Frame, Segmenter
from sognet_jax.inference.scene import Scene, describe_scene
from sognet_jax.models.sognet import SOGNet


def image_describer(
    config: ml_collections.ConfigDict, categories: CategorySet, network: SOGNet, variables: dict[str, Any]
) -> Callable[[Record], Scene]:
    """The function from a record to its result; at most two programs are compiled, one for each orientation."""
    settings = example_settings(config)
    inference = Inference(**config.inference)
    segmenter = Segmenter(inference, categories)

    def infer(network: SOGNet, image: jax.Array, image_size: jax.Array) -> Prediction[jax.Array]:
        return predict(network, image, image_size, inference)

    run = jax.jit(nn.apply(infer, network))

    def describe(record: Record) -> Scene:
        example = make_example(record, settings, either_orientation=True)
        prediction = jax.device_get(run(variables, example['image'][None], example['image_size'][None]))
        return describe_scene(jax.tree.map(lambda value: value[0], prediction), segmenter, Frame.of(example))

    return describe

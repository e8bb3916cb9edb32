"""The programs that benchmarks measure or compile, as functions of their arrays alone."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from sognet_jax.categories import CATEGORY_SETS
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import make_example
from sognet_jax.data.records.schema import Record
from sognet_jax.inference.prediction import Inference, predict
from sognet_jax.models.sognet import SOGNet, build_network, variable_shapes
from sognet_jax.training.objective import build_objective
from sognet_jax.training.optimizer import build_optimizer
from sognet_jax.training.step import TrainState, device_step

Program = tuple[Callable[..., Any], tuple[Any, ...], tuple[int, ...]]
"""A function, the shapes of its arguments, and the arguments whose memory it may reuse."""


def with_gradients(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """`(*inputs) -> (output, gradients of all inputs)`; what is pulled back is the output."""

    def both(*inputs: jax.Array) -> Any:
        output, pull_back = jax.vjp(function, *inputs)
        return output, pull_back(output)

    return both


def inference_program(config: ml_collections.ConfigDict, **changes: Any) -> tuple[SOGNet, Callable[..., Any]]:
    """The network of a config, and `(variables, image, image_size) -> prediction`.

    Args:
        config: an experiment.
        **changes: fields of `config.inference` with another value.
    """
    network = build_network(config.model, CATEGORY_SETS[config.categories])
    settings = Inference(**{**config.inference, **changes})
    return network, nn.apply(lambda network, *inputs: predict(network, *inputs, settings), network)


def training_program(
    config: ml_collections.ConfigDict,
) -> tuple[SOGNet, optax.GradientTransformation, Callable[..., Any]]:
    """The network of a config, its optimizer, and `(state, batch) -> (state, metrics)` on one device."""
    network = build_network(config.model, CATEGORY_SETS[config.categories])
    optimizer, _ = build_optimizer(config.optimizer, config.batch_size, config.model.backbone.frozen_stages)
    step = functools.partial(
        device_step, network=network, optimizer=optimizer, objective=build_objective(config.objective),
        seed=config.seed, axis=None,
    )  # fmt: skip
    return network, optimizer, step


def config_of(name: str, dtype: str) -> ml_collections.ConfigDict:
    """The config `module:variant` of `configs/`, computing in `dtype`."""
    module, _, variant = name.partition(':')
    config = importlib.import_module(f'configs.{module}').get_config(*[variant] if variant else [])
    config.model.dtype = dtype
    return config


def inference_for_one(config: ml_collections.ConfigDict) -> Program:
    """`predict` for one image."""
    network, function = inference_program(config)
    batch = batch_shapes(config)
    return function, (variable_shapes(network), batch['image'], batch['image_size']), ()


def training_for_one(config: ml_collections.ConfigDict) -> Program:
    """`device_step` for one image, which replaces the state."""
    network, optimizer, step = training_program(config)
    variables = variable_shapes(network)
    state = TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        params=variables['params'],
        batch_stats=variables.get('batch_stats', {}),
        optimizer=jax.eval_shape(optimizer.init, variables['params']),
    )
    return step, (state, batch_shapes(config)), (0,)


BUILDERS = {'inference': inference_for_one, 'training step': training_for_one}


def batch_shapes(config: ml_collections.ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch with one example of the data contract."""
    settings = example_settings(config)
    _, content = cv2.imencode('.png', np.zeros((*settings.image_size, 3), np.uint8))
    example = make_example(Record(content.tobytes(), 0, 'black.png', settings.image_size), settings)
    example['example_index'] = np.int32(0)
    return {name: jax.ShapeDtypeStruct((1, *np.shape(x)), np.asarray(x).dtype) for name, x in example.items()}

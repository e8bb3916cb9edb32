"""The programs that benchmarks measure or compile, as functions of their arrays alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import ml_collections
import optax

from sognet_jax.categories import CATEGORY_SETS
from sognet_jax.inference.prediction import Inference, predict
from sognet_jax.models.sognet import SOGNet, build_network
from sognet_jax.training.objective import build_objective
from sognet_jax.training.optimizer import build_optimizer
from sognet_jax.training.step import device_step


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

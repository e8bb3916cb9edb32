"""The parts of a training run that its config determines."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from sognet_jax import hosts
from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import require_same_network, restore_variables
from sognet_jax.choices import require_choice
from sognet_jax.models.sognet import (
    OCCLUSION_HEAD,
    RELATION_HEAD,
    SOGNet,
    build_network,
    initialize,
    initialize_relation_head,
    variable_shapes,
)
from sognet_jax.training.objective import (
    build_objective,
    occlusion_training_loss,
    relation_training_loss,
    training_losses,
)
from sognet_jax.training.optimizer import build_optimizer
from sognet_jax.training.step import TrainState, create_state, parallel_step


@dataclasses.dataclass
class Run:
    """The parts of a training run that a config determines."""

    state: TrainState  # before the first step, on the devices
    step: Callable[..., Any]  # the compiled step, see `parallel_step`
    rates: np.ndarray  # `[train.steps]` learning rates; on the host, so that to know one nobody waits for a device


TRAININGS = {
    '': (None, initialize, training_losses),
    'relation': (RELATION_HEAD, initialize_relation_head, relation_training_loss),
    'occlusion': (OCCLUSION_HEAD, initialize, occlusion_training_loss),
}
"""By `train.only`: the one part that is trained, the variables that this takes, and what is computed of a batch."""

_COMPILED: dict[Any, Callable[..., Any]] = {}
"""The step that was trained with last: the next training like it uses it again, whatever was evaluated in between."""


def build_run(config: ml_collections.ConfigDict, *, resumes: bool = False) -> Run:
    """Network, optimizer, the state before the first step and the mapped step.

    Args:
        config: an experiment.
        resumes: a checkpoint of the run will replace the state, so that `train.initialize_from` is not read.

    Raises:
        ValueError: a field of the config is unknown or has a value that is not one of its choices.
        CheckpointError: `train.initialize_from` holds no checkpoint of this network, or of one with other settings.
    """
    network = build_network(config.model, category_set(config.categories))
    objective = build_objective(config.objective)
    _check_trained_part(config)
    only, start, losses = TRAININGS[config.train.only]
    frozen_stages = config.model.backbone.frozen_stages
    optimizer, schedule = build_optimizer(config.optimizer, config.batch_size, frozen_stages, only)
    source = '' if resumes else config.train.initialize_from
    if source and only is None:  # else some parts are taken alone; classes may be others that are learned from there on
        hosts.from_first(lambda: require_same_network(source, config, same_classes=False))
    variables = _first_variables(network, start, config.seed, source, only)
    key = network, losses, config.seed, config.batch_size, f'{config.objective}', f'{config.optimizer}'
    if key not in _COMPILED:
        _COMPILED.clear()
        _COMPILED[key] = parallel_step(
            network=network, optimizer=optimizer, objective=objective, losses=losses, seed=config.seed,
            accumulate=config.optimizer.accumulate,
        )  # fmt: skip
    rates = np.asarray(schedule(jnp.arange(config.train.steps)))
    return Run(create_state(variables, optimizer), _COMPILED[key], rates)


def _check_trained_part(config: ml_collections.ConfigDict) -> None:
    """Refuses a `train.only` that is unknown, a head without weight for its loss, and the occlusion head of a network
    that has none or that nobody has trained.
    """
    only = config.train.only
    require_choice('config field train.only', only, tuple(TRAININGS))
    if only and not config.objective.weights[only]:
        raise ValueError(f'config field objective.weights.{only} must not be 0 where train.only = {only!r}')
    if only == 'occlusion' and not (config.model.occlusion.width and config.train.initialize_from):
        raise ValueError("train.only = 'occlusion' needs model.occlusion.width and train.initialize_from")


def _first_variables(
    network: SOGNet, start: Callable[[SOGNet, int], dict[str, Any]], seed: int, source: str, only: str | None
) -> dict[str, Any]:
    """Fresh variables, or those of a checkpoint; a finished network gets a fresh occlusion head to be trained."""
    if not source:
        return start(network, seed)
    wanted, fresh = variable_shapes(network, start), {}
    if only == OCCLUSION_HEAD:
        del wanted['params'][OCCLUSION_HEAD]
        fresh = {OCCLUSION_HEAD: start(network, seed)['params'][OCCLUSION_HEAD]}
    restored = hosts.from_first(lambda: restore_variables(source, wanted, partly=only is not None))
    return restored | {'params': restored['params'] | fresh}

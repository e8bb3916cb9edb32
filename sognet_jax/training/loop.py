"""The training run: data, step, progress, checkpoints, resume."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import Checkpoints, describe, latest_step, restore_variables
from sognet_jax.choices import require_choice
from sognet_jax.models.sognet import (
    RELATION_HEAD,
    build_network,
    initialize,
    initialize_relation_head,
    variable_shapes,
)
from sognet_jax.training.batches import TrainBatches
from sognet_jax.training.objective import build_objective, relation_training_loss, training_losses
from sognet_jax.training.optimizer import build_optimizer
from sognet_jax.training.progress import Progress, check_finite
from sognet_jax.training.relation_watch import RelationWatch
from sognet_jax.training.step import TrainState, create_state, parallel_step


@dataclasses.dataclass
class Run:
    """The parts of a training run that a config determines."""

    state: TrainState
    step: Callable[..., Any]
    schedule: Callable[[int], jax.Array]


def build_run(config: ml_collections.ConfigDict, *, resumes: bool = False) -> Run:
    """Network, optimizer, the state before the first step and the mapped step.

    Args:
        config: an experiment.
        resumes: a checkpoint of the run will replace the state, so that `train.initialize_from` is not read.

    Raises:
        ValueError: a field of the config is unknown or has a value that is not one of its choices.
        CheckpointError: `train.initialize_from` holds no checkpoint of this network.
    """
    network = build_network(config.model, category_set(config.categories))
    objective = build_objective(config.objective)
    only = trained_part(config)
    start, losses = (initialize_relation_head, relation_training_loss) if only else (initialize, training_losses)
    optimizer, schedule = build_optimizer(config.optimizer, config.batch_size, config.model.backbone.frozen_stages)
    if config.train.initialize_from and not resumes:
        variables = restore_variables(config.train.initialize_from, variable_shapes(network, start), only)
    else:
        variables = start(network, config.seed)
    step = parallel_step(network=network, optimizer=optimizer, objective=objective, losses=losses, seed=config.seed)
    return Run(create_state(variables, optimizer), step, schedule)


def trained_part(config: ml_collections.ConfigDict) -> str | None:
    """The one part of the network that a config trains, as parameters name it; None for the whole network.

    Raises:
        ValueError: `train.only` is unknown, or asks for the relation head without weight for its loss.
    """
    require_choice('config field train.only', config.train.only, ('', 'relation'))
    if config.train.only and not config.objective.weights.relation:
        raise ValueError("config field objective.weights.relation must not be 0 where train.only = 'relation'")
    return RELATION_HEAD if config.train.only else None


def train(config: ml_collections.ConfigDict, workdir: str | pathlib.Path, *, say: Callable[[str], None]) -> TrainState:
    """Trains to `config.train.steps`, going on from the newest checkpoint in `workdir`.

    Args:
        config: an experiment of `configs/`.
        workdir: gets `checkpoints/` and `tensorboard/`.
        say: gets lines for the console: one every `train.log_every` steps, and warnings.

    Returns:
        The state after the last step.

    Raises:
        NotFiniteError: a loss became NaN or infinite; the checkpoints before it stay.
        CheckpointError: `workdir` holds checkpoints of another network.
    """
    workdir = pathlib.Path(workdir).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    run = build_run(config, resumes=latest_step(workdir) is not None)
    checkpoints = Checkpoints(workdir)
    description = describe(config, category_set(config.categories))
    state = checkpoints.restore(run.state)
    first_step = int(state.step)
    batches = TrainBatches(config, first_step)
    progress = Progress(workdir, config.train.steps, first_step, config.batch_size)
    watch = RelationWatch(config.optimizer.warmup_steps, config.train.silent_lines)
    try:
        for step in range(first_step + 1, config.train.steps + 1):
            state, metrics = run.step(state, next(batches))
            # Fetching waits for the step: without it, pmap on CPU devices can deadlock.
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            check_finite(step, values)
            progress.add(values)
            last = step == config.train.steps
            if step % config.train.log_every == 0 or last:
                line, shares = progress.write(step, float(run.schedule(step - 1)))
                say(line)
                if config.objective.weights.relation and watch.look(step, shares):
                    say(watch.warning)
            if step % config.train.checkpoint_every == 0 or last:
                checkpoints.save(step, state, description)
    finally:
        checkpoints.close()
        progress.close()
        batches.close()
    if watch.warning:
        say(watch.warning)
    return state

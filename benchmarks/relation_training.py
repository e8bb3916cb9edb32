"""The relation head alone, trained from ground truth with many seeds at once: what the seeds benchmarks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from tqdm import tqdm

from sognet_jax import losses
from sognet_jax.category_files import category_set
from sognet_jax.contract import MASK_LOGITS_SIDE
from sognet_jax.data.configured import example_settings, prepare_split
from sognet_jax.data.examples.pipeline import evaluation_batches
from sognet_jax.models.sognet import SOGNet, build_network
from sognet_jax.ops.masks import crop_resize_masks
from sognet_jax.ops.overlap import overlap_relations
from sognet_jax.training.batches import TrainBatches
from sognet_jax.training.optimizer import build_optimizer

Arrays = dict[str, jax.Array]

MATRICES = ('overlap', 'order', 'true_order', 'decided')
KEYS = ('classes', 'boxes', *MATRICES)
SEEDS_AT_ONCE = 4
"""Few enough that what they compute stays in a cache."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """What the head is trained on and what it is tested on, arrays of the data contract; masks are 28 x 28.

    Attributes:
        training: `[steps, B, N, ...]`.
        validation: `[images, N, ...]`.
    """

    training: Arrays
    validation: Arrays


def load_examples(config: ml_collections.ConfigDict, steps: int, keys: tuple[str, ...] = KEYS) -> Examples:
    """The batches that `train.py` would train on, and the images of the config's `data.eval_split`.

    Args:
        config: an experiment; `seed` decides about the order of data.
        steps: how many batches.
        keys: arrays of the contract besides the masks.
    """
    pixels = bool({'panoptic', 'semantic'} & set(keys))
    config = ml_collections.ConfigDict(config.to_dict())
    config.train.only = '' if pixels else 'relation'
    batches = TrainBatches(config)
    training = [_chosen(next(batches), keys) for _ in tqdm(range(steps), desc='batches', delay=2)]
    batches.close()
    source = prepare_split(config, config.data.eval_split)
    images = evaluation_batches(source, example_settings(config), 1, pixels=pixels)
    validation = [_chosen(image, keys) for image in images]
    training, validation = (
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in (training, validation)
    )
    if not pixels:  # relations are between those that overlap another one: the other slots are left out
        slots = max(int(part['overlap'].any(axis=-1).sum(axis=-1).max()) for part in (training, validation))
        training, validation = _with_slots(training, slots), _with_slots(validation, slots)
    return Examples(training, validation)


def _with_slots(examples: dict[str, np.ndarray], slots: int) -> dict[str, np.ndarray]:
    """The same examples with so many slots, which those that overlap another instance come first in."""
    chosen = np.argsort(~examples['overlap'].any(axis=-1), axis=-1, kind='stable')[..., :slots]
    result = {}
    for name, value in examples.items():
        value = np.take_along_axis(
            value, chosen.reshape(*chosen.shape, *[1] * (value.ndim - chosen.ndim)), chosen.ndim - 1
        )
        if name in MATRICES:
            value = np.take_along_axis(value, chosen[..., None, :], chosen.ndim)
        result[name] = value
    return result


def _chosen(batch: Mapping[str, np.ndarray], keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    masks, boxes = (batch[name].reshape(-1, *batch[name].shape[-n:]) for name, n in (('masks', 2), ('boxes', 1)))
    small = np.asarray(_shrink(masks, boxes)).reshape(*batch['masks'].shape[:-2], MASK_LOGITS_SIDE, MASK_LOGITS_SIDE)
    return {'masks': small} | {name: batch[name] for name in keys}


@jax.jit
def _shrink(masks: jax.Array, boxes: jax.Array) -> jax.Array:
    return crop_resize_masks(masks.astype(jnp.float32), boxes, boxes, MASK_LOGITS_SIDE)


def potential(network: SOGNet, batch: Arrays) -> jax.Array:
    """The logits of M of a batch with masks of 28 x 28."""
    return network.relation_head.potential(batch['classes'], batch['boxes'], batch['masks'])


def squared_error(potential: jax.Array, order: jax.Array, decided: jax.Array, takes_part: jax.Array) -> jax.Array:
    """Eq. (14) of one image, from the logits of M."""
    relations = overlap_relations(nn.sigmoid(potential), takes_part)
    return losses.order_relation_loss(relations, order, decided, takes_part)


def _start(network: SOGNet, key: jax.Array) -> dict[str, Any]:
    example = {'classes': jnp.zeros((1, 1), jnp.int32), 'boxes': jnp.zeros((1, 1, 4))}
    example['masks'] = jnp.zeros((1, 1, MASK_LOGITS_SIDE, MASK_LOGITS_SIDE))
    return network.init(key, example, method=potential)['params']


Loss = Callable[[jax.Array, Arrays], jax.Array]
"""Logits of M `[B, N, N]` and a batch -> the weighted loss."""


def train_seeds(
    config: ml_collections.ConfigDict,
    loss: Loss,
    examples: Examples,
    seeds: np.ndarray,
    *,
    start_scale: float = 1.0,
    interceptor: nn.module.Interceptor = lambda call, arguments, keywords, _: call(*arguments, **keywords),
    record: Callable[[jax.Array, Arrays], Any] | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[jax.Array, Any]:
    """Trains the head from every seed, all on the same batches.

    Args:
        config: model, optimizer, batch size.
        loss: of the logits of M.
        examples: what is trained and tested on.
        seeds: `[s]` of the initial parameters.
        start_scale: factor on the last layer's initial kernel.
        interceptor: of flax, to change the head.
        record: what is kept of every step, from the logits of M and the batch before its update.
        optimizer: in place of the config's.

    Returns:
        The logits of M of the validation images, `[s, images, N, N]`, and what was recorded, `[s, steps, ...]`.
    """
    network = build_network(config.model, category_set(config.categories))
    if optimizer is None:
        optimizer, _ = build_optimizer(config.optimizer, config.batch_size, frozen_stages=0)

    def logits(params: Any, batch: Arrays) -> jax.Array:
        with nn.intercept_methods(interceptor):
            return nn.apply(potential, network)({'params': params}, batch)

    def update(state: tuple[Any, Any], batch: Arrays) -> tuple[tuple[Any, Any], Any]:
        params, optimizer_state = state

        def total(params: Any) -> tuple[jax.Array, jax.Array]:
            m = logits(params, batch)
            return loss(m, batch), m

        gradients, m = jax.grad(total, has_aux=True)(params)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        kept = None if record is None else record(m, batch)
        return (optax.apply_updates(params, updates), optimizer_state), kept

    def run(params: Any, training: Arrays, validation: Arrays) -> tuple[jax.Array, Any]:
        (params, _), kept = jax.lax.scan(update, (params, optimizer.init(params)), training)
        return jax.lax.map(lambda image: logits(params, image), validation, batch_size=20), kept

    params = jax.jit(jax.vmap(lambda seed: _start(network, jax.random.key(seed))))(jnp.asarray(seeds))
    fc = params['relation_head']['fc']
    fc['kernel'] = fc['kernel'] * start_scale

    def run_all(params: Any, training: Arrays, validation: Arrays) -> tuple[jax.Array, Any]:
        return jax.lax.map(lambda start: run(start, training, validation), params, batch_size=SEEDS_AT_ONCE)

    return jax.jit(run_all)(params, examples.training, examples.validation)

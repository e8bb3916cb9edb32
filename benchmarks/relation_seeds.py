r"""Which relation loss learns the order from every seed?

    python -m benchmarks.relation_seeds --config=configs/shapes.py
    python -m benchmarks.relation_seeds --config=configs/coco_r50.py --candidate='as configured' \
        --config.data.source=DIR --config.data.train_split=val2017 --config.data.max_instances=30

Trains the relation head alone, from ground truth instances, with hundreds of seeds at once and one order of data for
every hundred, once for each way of training it; counts the seeds that die and draws what the others reach.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import ml_collections
import numpy as np
import optax
from absl import app, flags, logging
from ml_collections import config_flags

from benchmarks.machine import describe
from benchmarks.relation_training import Arrays, Examples, load_examples, squared_error, train_seeds
from sognet_jax import losses
from sognet_jax.ops.overlap import overlap_relations

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment: configs/NAME.py.')
SEEDS = flags.DEFINE_integer('seeds', 500, 'Initial parameters that are tried.')
TOGETHER = flags.DEFINE_integer('together', 100, 'Seeds that see one order of data.')
STEPS = flags.DEFINE_integer('steps', 300, 'Updates of each.')
ONLY = flags.DEFINE_multi_string('candidate', None, 'One of the candidates, by its name; may be repeated.')
OUTPUT = flags.DEFINE_string('output', 'runs/relation_seeds', 'Results, without the ending: .json and .png.')

THRESHOLDS = (0.3, 0.5, 0.7)
DEAD = 1.0
"""A seed is dead where O reaches 0.5 on the right side of less than so many percent of the pairs."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way of training the relation head.

    Attributes:
        loss: of one image, from the logits of M, R* (`order`), the decided pairs and who takes part.
        weight: its factor; None: the config's.
        start_scale: factor on the last layer's initial kernel.
        normalised: the pair's features go through a layer normalisation before the last layer.
        clip: limit of the gradient's norm; None: the config's.
        adam: Adam with this rate in place of SGD.
    """

    loss: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    weight: float | None = None
    start_scale: float = 1.0
    normalised: bool = False
    clip: float | None = 10.0
    adam: float | None = None


def three_ways(potential: jax.Array, order: jax.Array, decided: jax.Array, takes_part: jax.Array) -> jax.Array:
    """Cross entropy over covered, covering, neither: a soft-max over both logits of a pair and 0."""
    logits = jnp.stack([potential, potential.T, jnp.zeros_like(potential)], axis=-1)
    labels = jnp.where(order, 0, jnp.where(order.T, 1, 2))
    pairs = decided & takes_part[:, None] & takes_part[None, :] & ~jnp.eye(len(takes_part), dtype=bool)
    errors = jnp.where(pairs, losses.cross_entropy(logits, labels), 0.0)
    return jnp.sum(errors) / jnp.square(jnp.maximum(jnp.sum(takes_part), 1))


def cross_entropy(temperature: float) -> Callable[..., jax.Array]:
    """The cross entropy of M, of logits divided by a temperature: the higher it is, the surer M gets."""
    factor = losses.TEMPERATURE / temperature
    return lambda potential, *targets: losses.order_cross_entropy_loss(factor * potential, *targets)


def both(potential: jax.Array, *targets: jax.Array) -> jax.Array:
    """Eq. (14) and a tenth of the cross entropy."""
    return squared_error(potential, *targets) + 0.1 * cross_entropy(1.0)(potential, *targets)


LOSSES = {'order': squared_error, 'order_cross_entropy': losses.order_cross_entropy_loss}
"""Of `objective.relation_loss`, as far as one can learn the order from them alone."""

AS_CONFIGURED = 'as configured'
CANDIDATES = {
    'Eq. (14), weight 20': Candidate(squared_error, 20.0),
    'Eq. (14), weight 1': Candidate(squared_error, 1.0),
    'Eq. (14), own clip 0.5': Candidate(squared_error, 20.0, clip=0.5),
    'Eq. (14), Adam 0.002': Candidate(squared_error, 20.0, adam=0.002),
    'Eq. (14), normalised': Candidate(squared_error, 20.0, normalised=True),
    'Eq. (14), start x 0.1': Candidate(squared_error, 20.0, start_scale=0.1),
    'cross entropy, weight 1': Candidate(cross_entropy(1.0), 1.0),
    'cross entropy, weight 20': Candidate(cross_entropy(1.0), 20.0),
    'cross entropy at 2, weight 80': Candidate(cross_entropy(2.0), 80.0),
    'cross entropy at 2, weight 40, normalised': Candidate(cross_entropy(2.0), 40.0, normalised=True),
    'Eq. (14) + 0.1 cross entropy, weight 20': Candidate(both, 20.0),
    'three ways, weight 20': Candidate(three_ways, 20.0),
}


def train_candidate(
    config: ml_collections.ConfigDict, candidate: Candidate, examples: Examples, seeds: np.ndarray
) -> np.ndarray:
    """The potentials M of the validation images after training, `[s, images, N, N]`."""
    weight = config.objective.weights.relation if candidate.weight is None else candidate.weight
    optimizer = None if candidate.adam is None else optax.adam(candidate.adam)
    if candidate.clip is not None:
        config = ml_collections.ConfigDict(config.to_dict())
        config.optimizer.relation_clip = candidate.clip

    def loss(potential: jax.Array, batch: Arrays) -> jax.Array:
        takes_part = jnp.any(batch['overlap'], axis=-1)
        of_image = jax.vmap(candidate.loss)
        return weight * jnp.mean(of_image(potential, batch['order'], batch['decided'], takes_part))

    logits, _ = train_seeds(
        config, loss, examples, seeds, start_scale=candidate.start_scale, optimizer=optimizer,
        **({'interceptor': normalise_pairs} if candidate.normalised else {}),
    )  # fmt: skip
    return np.asarray(nn.sigmoid(logits))


def normalise_pairs(call: Callable, arguments: tuple, keywords: dict, context: nn.module.InterceptorContext):
    """Layer normalisation of what goes into the last layer of the relation head."""
    if context.module.name == 'fc':
        (edges,) = arguments
        centred = edges - jnp.mean(edges, axis=-1, keepdims=True)
        arguments = (centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-6),)
    return call(*arguments, **keywords)


def measure(potential: np.ndarray, validation: Arrays) -> dict[str, np.ndarray]:
    """What each seed has learned: order accuracy at several thresholds of O, calibration of O; percent, `[s]` each.

    Args:
        potential: `[s, images, N, N]` M.
        validation: the images.
    """
    takes_part = validation['overlap'].any(axis=-1)
    relations = np.asarray(overlap_relations(potential, takes_part))
    order = validation['true_order'] if validation['true_order'].any() else validation['order']
    # O on the right side of each pair, and on the other: `[s, pairs]`.
    covered, covering = relations[:, order], np.swapaxes(relations, -1, -2)[:, order]
    figures = {
        f'order_accuracy_{threshold}': 100 * np.mean((covered >= threshold) & (covering < threshold), axis=1)
        for threshold in THRESHOLDS
    }
    # Where one direction is believed with strength s, it should be right in ... of the cases.
    strength = np.maximum(covered, covering)
    right = covered > covering
    said = strength >= 0.5
    figures['said'] = 100 * said.mean(axis=1)
    figures['right_where_said'] = 100 * np.where(said, right, False).sum(axis=1) / np.maximum(said.sum(axis=1), 1)
    figures['calibration_error'] = 100 * np.array(
        [_calibration_error(s, r) for s, r in zip(strength, right, strict=True)]
    )
    return figures


def _calibration_error(strength: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of 'the pair is ordered this way with probability (1 + O) / 2'."""
    claimed = 0.5 + 0.5 * strength
    place = np.minimum((strength * bins).astype(int), bins - 1)
    gaps = [abs(claimed[place == b].mean() - right[place == b].mean()) * np.mean(place == b) for b in np.unique(place)]
    return float(np.sum(gaps))


def summarise(figures: dict[str, np.ndarray]) -> dict[str, float]:
    """Minimum, median and mean over seeds, and how many died."""
    accuracy = figures['order_accuracy_0.5']
    summary = {'seeds': len(accuracy), 'dead': int(np.sum(accuracy < DEAD)), 'below_50': int(np.sum(accuracy < 50))}
    summary |= {'min': accuracy.min(), 'median': np.median(accuracy), 'max': accuracy.max(), 'mean': accuracy.mean()}
    summary |= {f'{name}_median': np.median(values) for name, values in figures.items()}
    return {name: round(float(value), 2) for name, value in summary.items()}


def draw(accuracies: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """A histogram of order accuracy by seed for each candidate."""
    figure, axes = plt.subplots(len(accuracies), figsize=(8, 0.9 * len(accuracies) + 1), sharex=True, squeeze=False)
    for axis, (name, values) in zip(axes[:, 0], accuracies.items(), strict=True):
        dead = values < DEAD
        axis.hist(values[~dead], bins=np.arange(0, 101, 1), color='tab:blue')
        axis.hist(values[dead], bins=np.arange(0, 101, 1), color='tab:red')
        axis.set_yscale('symlog', linthresh=1)
        axis.set_yticks([1, 10, 100])
        text = f'{name}: {dead.sum()} of {len(values)} dead, median {np.median(values):.1f}, least {values.min():.1f}'
        axis.text(0.01, 0.95, text, transform=axis.transAxes, va='top', fontsize=9)
    axes[-1, 0].set_xlabel('order accuracy of a seed in percent (counts on a logarithmic scale)')
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(_: list[str]) -> None:
    """Trains every candidate."""
    logging.set_verbosity(logging.ERROR)
    config, output = CONFIG.value, pathlib.Path(OUTPUT.value)
    candidates = CANDIDATES | {AS_CONFIGURED: Candidate(LOSSES[config.objective.relation_loss], clip=None)}
    chosen = {name: candidates[name] for name in ONLY.value or candidates}
    groups = np.split(np.arange(SEEDS.value), range(TOGETHER.value, SEEDS.value, TOGETHER.value))
    figures: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in chosen}
    for order, seeds in enumerate(groups):
        config.seed = order
        examples = load_examples(config, STEPS.value)
        for name, candidate in chosen.items():
            start = time.monotonic()
            figures[name].append(measure(train_candidate(config, candidate, examples, seeds), examples.validation))
            print(f'{name}: {len(seeds)} seeds in {time.monotonic() - start:.0f} s', flush=True)
        write(figures, output)


def write(figures: dict[str, list[dict[str, np.ndarray]]], output: pathlib.Path) -> None:
    """Prints, draws and keeps what the seeds so far have reached."""
    joined = {name: {key: np.concatenate([f[key] for f in rows]) for key in rows[0]} for name, rows in figures.items()}
    summaries = {name: summarise(values) for name, values in joined.items()}
    for name, summary in summaries.items():
        print(f'{name:<40}', '  '.join(f'{key} {value:g}' for key, value in summary.items()), flush=True)
    draw({name: values['order_accuracy_0.5'] for name, values in joined.items()}, output.with_suffix('.png'))
    result = describe() | {'jax': jax.__version__, 'steps': STEPS.value, 'candidates': summaries}
    output.with_suffix('.json').write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    flags.mark_flag_as_required('config')
    app.run(main)

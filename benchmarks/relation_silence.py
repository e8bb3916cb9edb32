"""Why a relation head falls silent: the logits of M, their gradients and saturated pairs, step by step.

    python -m benchmarks.relation_silence --config=configs/shapes.py --output=docs/relation_silence.png

Trains the relation head alone with Eq. (14), as `benchmarks.relation_seeds` does, until seeds have died, and draws one
that died, one that lives, and the one that died trained with the cross entropy of M instead.
"""

from __future__ import annotations

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from benchmarks.relation_training import Arrays, load_examples, squared_error, train_seeds
from sognet_jax import losses
from sognet_jax.training.relation import SATURATED

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment: configs/NAME.py.')
WEIGHT = flags.DEFINE_float('weight', 20.0, 'Of the relation loss.')
SEEDS = flags.DEFINE_integer('seeds', 100, 'How many are tried.')
STEPS = flags.DEFINE_integer('steps', 300, 'Updates of each.')
OUTPUT = flags.DEFINE_string('output', 'docs/relation_silence.png', 'The picture.')

Curves = dict[str, np.ndarray]


def main(_: list[str]) -> None:
    """Trains the seeds and draws three of them."""
    logging.set_verbosity(logging.ERROR)
    config = CONFIG.value
    examples = load_examples(config, STEPS.value)

    def train(loss, seeds: np.ndarray) -> Curves:
        def weighted(potential: jax.Array, batch: Arrays) -> jax.Array:
            takes_part = jnp.any(batch['overlap'], axis=-1)
            return WEIGHT.value * jnp.mean(jax.vmap(loss)(potential, batch['order'], batch['decided'], takes_part))

        def record(potential: jax.Array, batch: Arrays) -> Arrays:
            return curves(potential, jax.grad(weighted)(potential, batch), batch)

        _, kept = train_seeds(config, weighted, examples, seeds, record=record)
        return jax.tree.map(np.asarray, kept)

    of_seeds = train(squared_error, np.arange(SEEDS.value))
    speaks = of_seeds['related'][:, -20:].mean(axis=1)
    dead, living = int(np.argmin(speaks)), int(np.argsort(speaks)[len(speaks) // 2])
    print(f'{np.sum(speaks < 0.01)} of {len(speaks)} seeds are silent at the end; drawn: {dead} and {living}')
    panels = {
        f'Eq. (14), seed {dead}: dies': {name: value[dead] for name, value in of_seeds.items()},
        f'Eq. (14), seed {living}: lives': {name: value[living] for name, value in of_seeds.items()},
        f'cross entropy of M, seed {dead}': {
            name: value[0] for name, value in train(losses.order_cross_entropy_loss, np.array([dead])).items()
        },
    }
    draw(panels, pathlib.Path(OUTPUT.value))


def curves(potential: jax.Array, gradient: jax.Array, batch: Arrays) -> Arrays:
    """What is drawn of one step, over the pairs of known order.

    Args:
        potential: `[B, N, N]` logits of M.
        gradient: of the loss with respect to them.
        batch: the examples.
    """
    right, wrong = batch['order'], jnp.swapaxes(batch['order'], -1, -2)
    m = nn.sigmoid(potential)
    saturated = (m < SATURATED) | (m > 1 - SATURATED)

    def mean(values: jax.Array, where: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(where, values, 0.0)) / jnp.maximum(jnp.sum(where), 1)

    difference = m - jnp.swapaxes(m, -1, -2)
    return {
        'logit_right': mean(potential, right),
        'logit_wrong': mean(potential, wrong),
        'gradient': mean(jnp.abs(gradient), right | wrong),
        'saturated': mean(saturated & jnp.swapaxes(saturated, -1, -2), right),
        'related': mean(jnp.abs(difference) >= 0.5, right),
        'rightly': mean(difference >= 0.5, right),
    }


def draw(panels: dict[str, Curves], path: pathlib.Path) -> None:
    """One column a run."""
    figure, axes = plt.subplots(3, len(panels), figsize=(4.2 * len(panels), 7.5), sharex=True, sharey='row')
    for column, (title, values) in zip(axes.T, panels.items(), strict=True):
        column[0].set_title(title)
        column[0].plot(_smooth(values['logit_right']), label='covered by (should rise)')
        column[0].plot(_smooth(values['logit_wrong']), label='covering (should fall)')
        column[0].axhspan(-np.log(99), np.log(99), color='0.93', zorder=0, label='not saturated')
        column[1].semilogy(_smooth(values['gradient']), color='tab:green')
        for name, color in (('saturated', 'tab:red'), ('rightly', 'tab:blue')):
            label = 'both potentials saturated' if name == 'saturated' else 'O >= 0.5 on the right side'
            column[2].plot(100 * _smooth(values[name]), color=color, label=label)
        column[2].set_xlabel('step')
    axes[0, 0].set_ylabel('mean logit of M')
    axes[1, 0].set_ylabel('mean |gradient| on the logits')
    axes[2, 0].set_ylabel('% of the pairs')
    axes[0, 0].legend(fontsize=8)
    axes[2, 0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _smooth(values: np.ndarray, width: int = 5) -> np.ndarray:
    return np.convolve(values, np.ones(width) / width, mode='valid')


if __name__ == '__main__':
    flags.mark_flag_as_required('config')
    app.run(main)

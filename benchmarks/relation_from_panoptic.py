"""When does Eq. (12) learn the order? The relation head alone, Eq. (12) and the panoptic loss of fixed logits.

    python -m benchmarks.relation_from_panoptic --config=configs/shapes.py

Eq. (12) knows which instances overlap; which of two lies in front has to come from the panoptic loss, through O. Here
its other inputs are fixed and as good as can be: mask logits of the annotated masks, semantic logits of the annotated
classes, blurred by degrees or the same for all things. Prints a table and draws it beside the reason: what the panoptic
loss is with O on the right side of every pair, and on the wrong one.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import ml_collections
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from benchmarks.machine import describe
from benchmarks.relation_training import KEYS, Arrays, Examples, load_examples, train_seeds
from sognet_jax import losses
from sognet_jax.category_files import category_set
from sognet_jax.contract import PANOPTIC_STRIDE
from sognet_jax.ops.extent import image_extent, reduced
from sognet_jax.ops.overlap import overlap_relations
from sognet_jax.training.pixel_losses import ShownInstances, panoptic_losses

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment with a known true order: configs/shapes.py.')
SEEDS = flags.DEFINE_integer('seeds', 4, 'Of each setting.')
STEPS = flags.DEFINE_integer('steps', 300, 'Updates of each.')
ONLY = flags.DEFINE_multi_string('setting', None, 'One of the settings, by its name; may be repeated.')
OUTPUT = flags.DEFINE_string('output', 'runs/relation_from_panoptic', 'Results, without the ending: .json and .png.')

SEMANTIC_LOGIT = 8.0
MASK_LOGIT = 4.0
"""Of what is there, as a trained network gives them; semantic logits of other classes are 0, masks elsewhere are -4."""

RULES = {'best rule by category': 74.0, 'best rule by geometry': 73.5}
"""Order accuracy on the shapes, as `eval.py` prints it."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way of training with Eq. (12).

    Attributes:
        blur: deviation in pixels (of 1/4 of the image) of the Gaussian that blurs the semantic logits; None: they are
            the same for all things, so that they cannot tell two things apart.
        panoptic, relation: weights.
        head: 1, Eq. (9), or 2, Eq. (10).
        outside: see `Objective.outside`.
        late: steps with the panoptic loss alone, and steps in which Eq. (12) then grows to its weight.
        form, nonlinear: of the relation head, `model.relation.form` and `nonlinear_geometry`.
    """

    blur: float | None = 1.0
    panoptic: float = 0.5
    relation: float = 1.0
    head: int = 2
    outside: str = 'absent'
    late: tuple[int, int] = (0, 1)
    form: str = 'paper'
    nonlinear: bool = True


SETTINGS = {
    'as in the paper: K linear, panoptic 0.1': Setting(panoptic=0.1, nonlinear=False, outside='zero'),
    'form published, head 1, panoptic 0.1': Setting(panoptic=0.1, head=1, form='published', outside='zero'),
    'K nonlinear, panoptic 0.5': Setting(),
    'semantics sharp': Setting(blur=0.0),
    'semantics blurred by 2': Setting(blur=2.0),
    'semantics blurred by 4': Setting(blur=4.0),
    'no semantics': Setting(blur=None),
    'no semantics, panoptic 2': Setting(blur=None, panoptic=2.0),
    'no semantics, panoptic 10': Setting(blur=None, panoptic=10.0),
    'no semantics, head 1, panoptic 10': Setting(blur=None, panoptic=10.0, head=1),
    'no semantics, head 1, 40 and 8': Setting(blur=None, panoptic=40.0, relation=8.0, head=1),
    'no semantics, head 1, 100 and 20': Setting(blur=None, panoptic=100.0, relation=20.0, head=1),
    'no semantics, head 2, 100 and 20': Setting(blur=None, panoptic=100.0, relation=20.0),
    'blurred by 1, head 1, 100 and 20': Setting(panoptic=100.0, relation=20.0, head=1),
    'no semantics, 2 and 5, Eq. (12) late': Setting(blur=None, panoptic=2.0, relation=5.0, late=(100, 50)),
    'no semantics, head 1, 40 and 20, late': Setting(blur=None, panoptic=40.0, relation=20.0, head=1, late=(150, 100)),
    'blurred by 1, head 1, 100 and 10, late': Setting(panoptic=100.0, relation=10.0, head=1, late=(150, 100)),
}


def panoptic_loss(relations: jax.Array, batch: Arrays, classes: tuple[int, int], setting: Setting) -> jax.Array:
    """L_panoptic of each image, `[B]`: O is `[B, N, N]`, all else from the annotation; `classes` are S and T."""
    num_stuff, num_things = classes
    labels = batch['panoptic'].astype(jnp.int32)
    slots = jnp.clip(labels - num_stuff, 0, batch['classes'].shape[1] - 1)
    things = num_stuff + jax.vmap(lambda of_slot, slot: of_slot[slot])(batch['classes'], slots)
    semantic = jax.nn.one_hot(jnp.where(labels < num_stuff, labels, things), num_stuff + num_things)
    if setting.blur is None:
        any_thing = jnp.sum(semantic[..., num_stuff:], axis=-1, keepdims=True)
        semantic = jnp.concatenate([semantic[..., :num_stuff], jnp.tile(any_thing, num_things)], axis=-1)
    elif setting.blur:
        rows, columns = (_gaussian(size, setting.blur) for size in labels.shape[1:])
        semantic = jnp.einsum('yv,bvuc,xu->byxc', rows, semantic, columns)
    masks = MASK_LOGIT * (2 * batch['masks'] - 1)
    num_pixels = jnp.prod(reduced(image_extent(batch['image_size']), PANOPTIC_STRIDE), axis=-1)
    return panoptic_losses(
        ShownInstances(masks, batch['boxes'], batch['classes'], batch['valid'], relations), SEMANTIC_LOGIT * semantic,
        labels, num_pixels, num_stuff=num_stuff, head=setting.head, outside=setting.outside, void_channel=False,
    )  # fmt: skip


def _gaussian(size: int, deviation: float) -> jax.Array:
    place = jnp.arange(size)
    weights = jnp.exp(-0.5 * jnp.square((place[:, None] - place[None, :]) / deviation))
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def train(config: ml_collections.ConfigDict, setting: Setting, examples: Examples) -> np.ndarray:
    """O of the validation images after training, `[seeds, images, N, N]`."""
    config = ml_collections.ConfigDict(config.to_dict())
    published = setting.form == 'published'
    config.model.relation.update(form=setting.form, nonlinear_geometry=setting.nonlinear and not published)
    config.model.relation.appearance = not published
    classes = _num_classes(config)
    silent, growing = setting.late

    def loss(potential: jax.Array, batch: Arrays) -> jax.Array:
        takes_part = jnp.any(batch['overlap'], axis=-1)
        relations = overlap_relations(nn.sigmoid(potential), takes_part)
        overlap = jnp.mean(jax.vmap(losses.overlap_relation_loss)(relations, batch['overlap'], takes_part))
        weight = setting.relation * jnp.clip((batch['step'] + 1 - silent) / growing, 0, 1)
        return weight * overlap + setting.panoptic * jnp.mean(panoptic_loss(relations, batch, classes, setting))

    potential, _ = train_seeds(config, loss, examples, np.arange(SEEDS.value))
    return np.asarray(overlap_relations(nn.sigmoid(potential), examples.validation['overlap'].any(axis=-1)))


def measure(relations: np.ndarray, validation: Arrays) -> dict[str, float]:
    """Mean over seeds, in percent: order accuracy, pairs related, order accuracy of pairs of one class and of two."""
    order, classes = validation['true_order'], validation['classes']
    same = (classes[:, :, None] == classes[:, None, :])[order]
    covered, covering = relations[:, order], np.swapaxes(relations, -1, -2)[:, order]
    right, related = covered >= 0.5, np.maximum(covered, covering) >= 0.5
    accuracy = 100 * right.mean(axis=1)
    figures = {
        'order_accuracy': accuracy.mean(), 'least': accuracy.min(), 'greatest': accuracy.max(),
        'related': 100 * related.mean(), 'right_where_related': 100 * right.sum() / max(related.sum(), 1),
        'same_class': 100 * right[:, same].mean(), 'different_classes': 100 * right[:, ~same].mean(),
    }  # fmt: skip
    return {name: round(float(value), 1) for name, value in figures.items()}


def loss_curves(config: ml_collections.ConfigDict, validation: Arrays) -> dict[str, dict[str, list[float]]]:
    """The mean panoptic loss with O of 0 to 1 on the right side of every pair, and on the wrong one."""
    batch = {name: jnp.asarray(value) for name, value in validation.items()}
    right, classes = batch['true_order'].astype(jnp.float32), _num_classes(config)
    curves = {}
    for blur in (0.0, 1.0, 4.0, None):
        value = jax.jit(lambda o, blur=blur: jnp.mean(panoptic_loss(o, batch, classes, Setting(blur=blur))))
        sides = {'right': right, 'wrong': jnp.swapaxes(right, -1, -2)}
        name = 'no semantics' if blur is None else f'blurred by {blur:g}'
        curves[name] = {side: [float(value(x * o)) for x in STRENGTHS] for side, o in sides.items()}
    return curves


STRENGTHS = np.linspace(0, 1, 6)


def _num_classes(config: ml_collections.ConfigDict) -> tuple[int, int]:
    categories = category_set(config.categories)
    return categories.num_stuff, categories.num_things


def draw(figures: dict[str, dict[str, float]], curves: dict[str, dict[str, list[float]]], path: pathlib.Path) -> None:
    """Left, what each setting reaches; right, what O is worth to the panoptic loss."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=(3, 2))
    names = list(figures)[::-1]
    left.barh(names, [figures[name]['related'] for name in names], color='0.85', label='pairs related')
    left.barh(names, [figures[name]['order_accuracy'] for name in names], height=0.5, label='of them rightly')
    for (name, value), style in zip(RULES.items(), ('--', ':'), strict=True):
        left.axvline(value, color='tab:red', linestyle=style, label=name)
    left.set(xlim=(0, 100), xlabel='% of the overlapping pairs')
    left.tick_params(axis='y', labelsize=8)
    left.legend(fontsize=7, loc='lower right', bbox_to_anchor=(1, 1), ncols=4)  # above the bars
    for number, (name, sides) in enumerate(curves.items()):
        for side, style in (('right', '-'), ('wrong', '--')):
            right.plot(STRENGTHS, sides[side], style, color=f'C{number}', label=f'{name}, {side} side')
    right.set(xlabel='O on every overlapping pair', ylabel='panoptic loss')
    right.legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main(_: list[str]) -> None:
    """Trains every setting."""
    logging.set_verbosity(logging.ERROR)
    config, output = CONFIG.value, pathlib.Path(OUTPUT.value)
    examples = load_examples(config, STEPS.value, (*KEYS, 'panoptic', 'image_size', 'valid'))
    examples.training['step'] = np.arange(STEPS.value)
    curves = loss_curves(config, examples.validation)
    figures = {}
    for name in ONLY.value or SETTINGS:
        figures[name] = measure(train(config, SETTINGS[name], examples), examples.validation)
        print(f'{name:<42}', '  '.join(f'{key} {value:5.1f}' for key, value in figures[name].items()), flush=True)
    draw(figures, curves, output.with_suffix('.png'))
    result = describe() | {'jax': jax.__version__, 'steps': STEPS.value, 'seeds': SEEDS.value, 'settings': figures}
    result['panoptic_loss'] = {'strength': STRENGTHS.tolist()} | curves
    output.with_suffix('.json').write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    flags.mark_flag_as_required('config')
    app.run(main)

"""Panoptic fusion by a plain loop, and random instances for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sognet_jax.kernels.panoptic_fusion import panoptic_fusion
from sognet_jax.ops.masks import paste_masks
from sognet_jax.ops.resize import resize_bilinear
from tests.support.golden_files import SHIFT

STUFF = 3

THINGS = 4

PASTE = jax.jit(paste_masks, static_argnums=2)

RESIZE = jax.jit(resize_bilinear, static_argnums=1)


def random_scene(seed: int, count: int = 6, size: tuple[int, int] = (40, 48)):
    rng = np.random.default_rng(seed)
    corner, extent = rng.uniform(-4, 30, (count, 2)), rng.uniform(4, 30, (count, 2))
    upper = np.triu(rng.uniform(size=(count, count)), 1)
    flip = rng.uniform(size=(count, count)) < 0.5
    relations = np.where(flip, upper, 0) + np.where(flip, 0, upper).T
    valid = rng.uniform(size=count) < 0.8
    return {
        'mask_logits': rng.normal(0.5, 2, (count, 28, 28)).astype(np.float32),
        'boxes': np.concatenate([corner, corner + extent], axis=1).astype(np.float32),
        'classes': rng.integers(0, THINGS, count),
        'valid': valid,
        'relations': (relations * valid * valid[:, None]).astype(np.float32),
        'semantic': rng.normal(0, 1, (size[0] // 4, size[1] // 4, STUFF + THINGS)).astype(np.float32),
        'partners': rng.integers(0, 3, count),
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive_resolve(logits, relations, inside, resolve):
    def present(k):
        return np.where(inside[k], sigmoid(logits[k]), 0.0)

    count = len(logits)
    if resolve == 'joint':
        original = [present(k) for k in range(count)]
        covering = [sum(relations[i, j] * original[j] for j in range(count)) for i in range(count)]
        return [logits[i] - logits[i] * original[i] * covering[i] for i in range(count)]
    logits = list(logits)
    for i in range(count):
        for j in range(i + 1, count):
            both = np.where(inside[i] & inside[j], sigmoid(logits[i]) * sigmoid(logits[j]), 0.0)
            logits[i], logits[j] = (
                logits[i] - logits[i] * both * relations[i, j],
                logits[j] - logits[j] * both * relations[j, i],
            )
    return logits


def naive_fusion(scene, size, head, balance, resolve, outside, void_channel=False):
    """Everything at full resolution and in painting order, one instance at a time."""
    order = np.argsort(-scene['partners'], kind='stable')
    order = order[scene['valid'][order]]
    boxes = scene['boxes'][order]
    pasted = PASTE(scene['mask_logits'][order], boxes, size)
    pasted, inside = map(np.asarray, pasted)
    inside = inside | (outside == 'zero')
    resolved = naive_resolve(pasted, scene['relations'][np.ix_(order, order)], inside, resolve)
    semantic = np.asarray(RESIZE(scene['semantic'], size))
    channels = [semantic[..., k] for k in range(STUFF)]
    seen = []
    for i, slot in enumerate(order):
        x1, y1, x2, y2 = (boxes[i] - SHIFT).tolist()
        crop = np.zeros(size, bool)
        crop[max(int(y1), 0) : max(int(round(y2) + 1), 0), max(int(x1), 0) : max(int(round(x2) + 1), 0)] = True
        own = np.where(crop, semantic[..., STUFF + scene['classes'][slot]], 0)
        seen.append(own)
        extra = own if head == 1 else balance * own * sigmoid(resolved[i])
        channels.append(extra + resolved[i])
    if void_channel:
        channels.append(semantic[..., STUFF:].max(axis=-1) - (np.max(seen, axis=0) if seen else 0))
    channels = np.stack(channels)
    ranked = np.sort(channels, axis=0)
    ids = np.concatenate([np.arange(STUFF), STUFF + order, [-1]])[channels.argmax(axis=0)]
    is_clear = ranked[-1] - ranked[-2]
    return ids, (is_clear > 1e-4) | (is_clear == 0)


def fuse(scene, size=(40, 48), **options):
    scene = jax.tree.map(jnp.array, scene)
    return jax.jit(functools.partial(panoptic_fusion, size=size, num_stuff=STUFF, **options))(**scene)

"""Batches of made-up examples in the form of the data contract."""

import jax
import numpy as np

from sognet_jax.category_files import category_set
from sognet_jax.contract import MASK_SIDE, PANOPTIC_STRIDE


def random_batch(config, seed=0):
    """`[batch_size, ...]` arrays of one batch: rectangles on stuff, each drawn over those before it."""
    examples = [random_example(config, np.random.default_rng([seed, index])) for index in range(config.batch_size)]
    batch = jax.tree.map(lambda *values: np.stack(values), *examples)
    return batch | {'example_index': np.arange(config.batch_size, dtype=np.int32)}


def random_example(config, rng):
    """One example whose last slot is empty and whose instances are full rectangles."""
    categories = category_set(config.categories)
    height, width = config.data.image_size
    slots = config.data.max_instances
    boxes = np.zeros((slots, 4), np.float32)
    classes = np.zeros(slots, np.int32)
    semantic = np.full((height, width), rng.integers(categories.num_stuff), np.uint8)
    panoptic = semantic.astype(np.int16)
    covered = np.zeros((slots, height, width), bool)
    for slot in range(slots - 1):
        x, y = rng.integers(0, width - 24), rng.integers(0, height - 24)
        w, h = rng.integers(12, 24, 2)
        boxes[slot] = x, y, x + w, y + h
        classes[slot] = rng.integers(categories.num_things)
        semantic[y : y + h, x : x + w] = categories.num_stuff + classes[slot]
        panoptic[y : y + h, x : x + w] = categories.num_stuff + slot
        covered[slot, y : y + h, x : x + w] = True
    areas = covered.sum((1, 2))
    intersections = np.einsum('ihw,jhw->ij', covered.astype(int), covered.astype(int))
    smaller = np.maximum(np.minimum(areas[:, None], areas[None]), 1)
    overlap = (intersections / smaller >= 0.1) & ~np.eye(slots, dtype=bool)
    valid = np.arange(slots) < slots - 1
    return {
        'image': rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
        'image_size': np.array([height, width], np.int32),
        'boxes': boxes,
        'classes': classes,
        'valid': valid,
        'crowd': np.zeros(slots, bool),
        'masks': np.tile(valid[:, None, None], (1, MASK_SIDE, MASK_SIDE)).astype(np.uint8),
        'semantic': semantic,
        'panoptic': panoptic[::PANOPTIC_STRIDE, ::PANOPTIC_STRIDE],
        'overlap': overlap,
        'order': np.triu(overlap),
        'decided': np.ones((slots, slots), bool),
        'has_instances': np.array(True),
        'has_panoptic': np.array(True),
    }

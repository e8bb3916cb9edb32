"""A network that trains in milliseconds, and batches of made-up examples in the data contract's form."""

import jax
import numpy as np

from sognet_jax.categories import CATEGORY_SETS
from sognet_jax.configs import shapes


def tiny_config():
    """`configs/shapes.py` with as few channels and boxes as will do, at 64 x 64."""
    config = shapes.get_config()
    config.batch_size = 8
    config.model.backbone.width = 8
    config.model.pyramid.features = 8
    config.model.rpn.features = 8
    config.model.box.features = 16
    config.model.mask.features = 8
    config.model.mask.num_convs = 1
    config.model.semantic.features = (8,)
    config.model.relation.rank = 8
    config.objective.rpn_batch_size = 16
    config.objective.proposals_per_level = 20
    config.objective.proposals = 16
    config.objective.box_batch_size = 16
    config.inference.proposals_per_level = 20
    config.inference.proposals = 16
    config.inference.max_detections = 6
    config.data.image_size = (64, 64)
    config.data.short_side = 64
    config.data.long_side = 64
    config.data.max_instances = 4
    config.optimizer.warmup_steps = 0
    return config


def random_batch(config, seed=0):
    """`[batch_size, ...]` arrays of one batch: rectangles on stuff, each drawn over those before it."""
    examples = [random_example(config, np.random.default_rng([seed, index])) for index in range(config.batch_size)]
    batch = jax.tree.map(lambda *values: np.stack(values), *examples)
    return batch | {'example_index': np.arange(config.batch_size, dtype=np.int32)}


def random_example(config, rng):
    """One example whose last slot is empty and whose instances are full rectangles."""
    categories = CATEGORY_SETS[config.categories]
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
        'masks': np.repeat(np.repeat(valid[:, None, None], 112, 1), 112, 2).astype(np.uint8),
        'semantic': semantic,
        'panoptic': panoptic[::4, ::4],
        'overlap': overlap,
        'order': np.triu(overlap),
        'decided': np.ones((slots, slots), bool),
        'has_instances': np.array(True),
        'has_panoptic': np.array(True),
    }

"""Which pairs of an image's instances may have an order at all, and rules that give them one without any training."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.choices import require_choice
from sognet_jax.data.records.relations import RLE, find_pairs, rle_areas
from sognet_jax.data.sources.orders.readers import OrderedImage, touching

RULES = ('none', 'larger', 'smaller', 'lower')
"""Nothing covers anything (O = 0); of two that touch, the one with the larger or smaller whole mask, or the one that is
lower by the mean row of its visible pixels, covers the other."""

PAIRS = ('related', 'overlapping', 'touching', 'all')
"""Those among instances with any R = 1, as in training; those with R = 1; those whose visible masks touch; all."""


def follow_rule(rule: str, image: OrderedImage) -> np.ndarray:
    """`[n, n]` bool, i is covered by j: what one of `RULES` says."""
    require_choice('rule', rule, RULES)
    if rule == 'none' or not len(image.ids):
        return np.zeros((len(image.ids),) * 2, bool)
    rank = np.array([_mean_row(mask) for mask in image.visible]) if rule == 'lower' else rle_areas(image.whole)
    covers = rank < rank[:, None] if rule == 'smaller' else rank > rank[:, None]
    return covers & touching(image.visible)


def pairs_taking_part(choice: str, masks: Sequence[RLE], visible: Sequence[RLE]) -> np.ndarray:
    """`[n, n]` bool, symmetric: the pairs of an image's instances that one of `PAIRS` means; R is that of `masks`."""
    require_choice('pairs', choice, PAIRS)
    count = len(masks)
    if choice == 'touching':
        return touching(visible)
    if choice == 'all' or not count:
        return ~np.eye(count, dtype=bool)
    first, second = find_pairs(masks, np.zeros(count, bool))[0].T
    related = np.zeros((count, count), bool)
    related[first, second] = related[second, first] = True
    some = related.any(axis=1, keepdims=True)
    return related if choice == 'overlapping' else some & some.T & ~np.eye(count, dtype=bool)


def _mean_row(mask: RLE) -> float:
    rows = coco_mask.decode(mask).sum(axis=1, dtype=np.int64)
    return float(rows @ np.arange(len(rows)) / max(rows.sum(), 1))

"""Class transfer: heads trained on one set of categories as the start for another one.

Classes are matched by name; those without a counterpart keep fresh values (the practice from COCO to Cityscapes in the
line of work the paper stands in).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from sognet_jax.categories import CategorySet

Variables = dict[str, Any]

_CLASS_AXES: Mapping[tuple[str, ...], tuple[int, str]] = {
    ('box_head', 'score', 'kernel'): (1, 'scores'),
    ('box_head', 'score', 'bias'): (0, 'scores'),
    ('box_head', 'box', 'kernel'): (1, 'boxes'),
    ('box_head', 'box', 'bias'): (0, 'boxes'),
    ('mask_head', 'kernel'): (0, 'things'),
    ('mask_head', 'bias'): (0, 'things'),
    ('semantic_head', 'kernel'): (2, 'classes'),
    ('semantic_head', 'bias'): (0, 'classes'),
    ('relation_head', 'category_embedding', 'U', 'kernel'): (0, 'things'),
    ('relation_head', 'category_embedding', 'V', 'kernel'): (0, 'things'),
}
"""Which axis of an array counts classes, and how: `things` 0..T-1, `scores` background and things, `boxes` four numbers
for each thing, `classes` semantic train ids."""


def transfer_classes(
    trained: Variables, fresh: Variables, source: CategorySet, target: CategorySet
) -> tuple[Variables, list[str]]:
    """Variables for the classes of `target` from variables trained on those of `source` and fresh ones for `target`;
    and the names of the classes of `target` that keep fresh values.
    """
    pairs = _matches(source, target)
    result = traverse_util.flatten_dict(trained)
    for path, array in traverse_util.flatten_dict(fresh).items():
        if path[1:] in _CLASS_AXES and path in result:
            axis, kind = _CLASS_AXES[path[1:]]
            rows, trained_rows = pairs[kind]
            replaced = np.array(array)
            np.moveaxis(replaced, axis, 0)[rows] = np.moveaxis(result[path], axis, 0)[trained_rows]
            result[path] = replaced
    matched_stuff = {int(index) for index in pairs['classes'][0] if index < target.num_stuff}
    matched = matched_stuff | {target.num_stuff + int(index) for index in pairs['things'][0]}
    without = [category.name for index, category in enumerate(target.all) if index not in matched]
    return traverse_util.unflatten_dict(result), without


def has_classes(variables: Variables) -> bool:
    """Whether variables have anything that counts classes."""
    return any(path[1:] in _CLASS_AXES for path in traverse_util.flatten_dict(variables))


def base_name(name: str) -> str:
    """A class name without what COCO's panoptic categories add: `sky-other-merged` is sky."""
    return re.sub(r'(-other|-merged|-stuff)+$', '', name)


def _matches(source: CategorySet, target: CategorySet) -> dict[str, np.ndarray]:
    """For every kind of class axis: `[2, k]` indices of the target and of the source that mean the same class."""

    def match(ours: tuple, theirs: tuple) -> np.ndarray:
        index = {base_name(category.name): position for position, category in enumerate(theirs)}
        rows = [(i, index[base_name(c.name)]) for i, c in enumerate(ours) if base_name(c.name) in index]
        return np.array(rows, int).reshape(-1, 2).T

    things = match(target.things, source.things)
    return {
        'things': things,
        'scores': np.pad(things + 1, ((0, 0), (1, 0))),  # the background, 0, is the same
        'boxes': (things[..., None] * 4 + np.arange(4)).reshape(2, -1),
        'classes': match(target.all, source.all),
    }

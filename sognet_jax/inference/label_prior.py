"""Pairs of categories of which one always lies on the other: the label prior of Li et al. 2019b, as a file.

    {"data": ..., "rules": [{"on": "tie", "under": "person", "pairs": 120, "share": 0.99}, ...]}

`python -m sognet_jax.programs.mine_label_prior` makes one from training annotations; it can be written by hand as well.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np

from sognet_jax.categories import CategorySet


class LabelPriorError(ValueError):
    """A file of rules is missing or broken; the message names the file and the rule."""


def read_label_prior(path: str | pathlib.Path, categories: CategorySet) -> np.ndarray:
    """The rules of a file.

    Args:
        path: of the file.
        categories: whose things the rules name.

    Returns:
        `[T, T]` bool, true at (a, b) where things of class a lie on those of class b.

    Raises:
        LabelPriorError: the file cannot be read, names something that is no thing, or contradicts itself.
    """
    path = pathlib.Path(path)
    try:
        rules = json.loads(path.read_bytes())['rules']
        names = [(str(rule['on']), str(rule['under'])) for rule in rules]
    except OSError as error:
        raise LabelPriorError(f'{path}: cannot be read: {error.strerror}') from error
    except (KeyError, TypeError, ValueError) as error:
        text = 'expected JSON with a list "rules" of {"on": name, "under": name}'
        raise LabelPriorError(f'{path}: {text} ({type(error).__name__}: {error})') from error
    thing_of = {category.name: index for index, category in enumerate(categories.things)}
    lies_on = np.zeros((categories.num_things, categories.num_things), bool)
    for number, (on, under) in enumerate(names):
        for name in (on, under):
            if name not in thing_of:
                raise LabelPriorError(f'{path}, rule {number}: {name!r} is no thing of {categories.name}')
        if on == under or lies_on[thing_of[under], thing_of[on]]:
            raise LabelPriorError(f'{path}, rule {number}: {on!r} on {under!r} contradicts itself or another rule')
        lies_on[thing_of[on], thing_of[under]] = True
    return lies_on

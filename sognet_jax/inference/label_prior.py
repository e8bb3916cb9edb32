"""Pairs of categories of which one always lies on the other: the label prior of Li et al. 2019b, as a file.

    {"data": ..., "rules": [{"on": "tie", "under": "person", "pairs": 120, "share": 0.99}, ...]}

`python -m sognet_jax.programs.mine_label_prior` makes one from training annotations; it can be written by hand as well.
"""

import pathlib

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.json_files import Notes, decode_entries, read_json
from sognet_jax.json_schemas import Rule, RuleFile
from sognet_jax.problems import Problem, raise_if_any


def read_label_prior(path: str | pathlib.Path, categories: CategorySet) -> np.ndarray:
    """The rules of a file: `[T, T]` bool, true at (a, b) where things of class a lie on those of class b.

    Raises:
        ValueError: the file cannot be read, names something that is no thing, or contradicts itself.
    """
    problems: list[Problem] = []
    rules = read_json(path, RuleFile).rules
    entries = decode_entries(pathlib.Path(path), 'rules', rules, Rule, problems, Notes())
    names = [(rule.on, rule.under) for _, rule in entries]
    raise_if_any(problems)
    thing_of = {category.name: index for index, category in enumerate(categories.things)}
    lies_on = np.zeros((categories.num_things, categories.num_things), bool)
    for number, (on, under) in enumerate(names):
        for name in (on, under):
            if name not in thing_of:
                raise ValueError(f'{path}, rules[{number}]: {name!r} is no thing of {categories.name}')
        if on == under or lies_on[thing_of[under], thing_of[on]]:
            raise ValueError(f'{path}, rules[{number}]: {on!r} on {under!r} contradicts itself or another rule')
        lies_on[thing_of[on], thing_of[under]] = True
    return lies_on

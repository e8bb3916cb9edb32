"""The classes of each data set: names, stuff or thing, data set ids and colours.

Inside the network only two numberings exist:

* thing class `0 .. T-1` (box, mask and relation heads; the box head adds background in front), and
* semantic train id: stuff `0 .. S-1`, then things `S .. S+T-1`; 255 is ignored.

Data set ids (COCO's 1..200 with gaps, Cityscapes' 7..33) appear only in `data/` and `evaluation/`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Category(NamedTuple):
    """One class: its id in the data set, its name and an RGB colour for pictures."""

    id: int
    name: str
    color: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class CategorySet:
    """The stuff and thing classes of a data set, in train id order."""

    name: str
    stuff: tuple[Category, ...]
    things: tuple[Category, ...]

    @property
    def num_stuff(self) -> int:
        """S, the number of stuff classes."""
        return len(self.stuff)

    @property
    def num_things(self) -> int:
        """T, the number of thing classes."""
        return len(self.things)

    @property
    def num_classes(self) -> int:
        """S + T, the number of semantic train ids."""
        return len(self.stuff) + len(self.things)

    @property
    def all(self) -> tuple[Category, ...]:
        """Every category, indexed by semantic train id."""
        return self.stuff + self.things

    def thing_numbers(self, names: Sequence[str]) -> np.ndarray:
        """`[n]` int32, the thing classes of these names; where there is one alone, everything is of it.

        Raises:
            ValueError: there is no thing of a name.
        """
        numbers = {category.name: number for number, category in enumerate(self.things)}
        if unknown := sorted(set(names) - numbers.keys()) if len(numbers) > 1 else []:
            raise ValueError(f'{unknown[0]!r} is none of the things of {self.name}: {", ".join(numbers):.60} ...')
        return np.array([numbers.get(name, 0) for name in names], np.int32)

    def is_thing(self, train_id: int) -> bool:
        """Whether a semantic train id is a thing."""
        return train_id >= self.num_stuff


def _packaged() -> dict[str, CategorySet]:
    """The sets of `categories.json`, in train id order: stuff, then things."""
    content = json.loads(pathlib.Path(__file__).with_name('categories.json').read_text())
    groups: dict[str, list[list[Category]]] = {name: [[], []] for name in content}
    for name, entries in content.items():
        for entry in entries:
            groups[name][entry['isthing']].append(Category(entry['id'], entry['name'], tuple(entry['color'])))
    return {name: CategorySet(name, tuple(stuff), tuple(things)) for name, (stuff, things) in groups.items()}


CATEGORY_SETS = _packaged()
COCO, CITYSCAPES, SHAPES = (CATEGORY_SETS[name] for name in ('coco', 'cityscapes', 'shapes'))
OBJECT = CATEGORY_SETS['object']
"""One class for all things, where nothing is to be learned from classes."""

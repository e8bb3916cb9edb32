"""The categories that a config names, and those of files: anybody's own stuff and things."""

from __future__ import annotations

import colorsys
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from sognet_jax.categories import CATEGORY_SETS, Category, CategorySet
from sognet_jax.contract import SEMANTIC_IGNORE


def category_set(name: str | Sequence[Any], field: str = 'config field categories') -> CategorySet:
    """The categories that a config names: a data set of `CATEGORY_SETS`, or a JSON file of one's own.

    Args:
        name: a name, or the path of a `.json` file that holds a list of categories as COCO panoptic has it (`id`,
            `name`, `isthing` and, if you like, `color`), by itself or as the field `categories`; or such a list.
        field: where the name was given, for messages.

    Raises:
        ValueError: there are none of this name, or the file is missing or broken.
    """
    if not isinstance(name, str):
        return categories_from_json(list(name), field)
    if name.endswith('.json'):
        return read_categories(name)
    if name not in CATEGORY_SETS:
        raise ValueError(f'{field} must be one of {tuple(CATEGORY_SETS)} or a .json file, not {name!r}')
    return CATEGORY_SETS[name]


def read_categories(path: str | pathlib.Path) -> CategorySet:
    """The categories of a JSON file, see `category_set`.

    Raises:
        ValueError: the file is missing or broken.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except OSError as error:
        raise ValueError(f'{path}: categories cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    return categories_from_json(content.get('categories') if isinstance(content, dict) else content, str(path))


def categories_from_json(entries: Any, where: str) -> CategorySet:
    """Categories from COCO panoptic's list of them; stuff and things keep its order.

    Args:
        entries: `[{'id': 1, 'name': 'person', 'isthing': 1, 'color': [220, 20, 60]}, ...]`; colours may be missing.
        where: the file, for messages, and the name of the set.

    Raises:
        ValueError: an entry is broken or appears twice, or there are no things, no stuff, or too many of them.
    """
    if not isinstance(entries, list):
        raise ValueError(f'{where}: expected a list of categories')
    found: dict[bool, list[Category]] = {False: [], True: []}
    for index, entry in enumerate(entries):
        missing = [field for field in ('id', 'name', 'isthing') if not isinstance(entry, dict) or field not in entry]
        if missing:
            raise ValueError(f'{where}: category {index} of the list has no {missing[0]!r}: {entry}')
        color = tuple(entry.get('color', _default_color(index)))
        found[bool(entry['isthing'])].append(Category(int(entry['id']), str(entry['name']), color))
    categories = CategorySet(where, tuple(found[False]), tuple(found[True]))
    for field in ('id', 'name'):
        values = [getattr(category, field) for category in categories.all]
        doubled = next((value for value in values if values.count(value) > 1), None)
        if doubled is not None:
            raise ValueError(f'{where}: two categories have the {field} {doubled!r}')
    if not categories.things or not categories.stuff:
        raise ValueError(f'{where}: expected stuff and things, found {len(found[False])} and {len(found[True])}')
    if categories.num_classes > SEMANTIC_IGNORE:
        raise ValueError(f'{where}: {categories.num_classes} categories, at most {SEMANTIC_IGNORE} can be told apart')
    return categories


def categories_to_json(categories: CategorySet) -> list[dict[str, Any]]:
    """The inverse of `categories_from_json`."""
    return [
        {'id': category.id, 'name': category.name, 'isthing': int(is_thing), 'color': list(category.color)}
        for is_thing, group in ((False, categories.stuff), (True, categories.things))
        for category in group
    ]


def _default_color(index: int) -> tuple[int, int, int]:
    """Neighbours in the list get hues that are far from each other."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.55 + 0.15 * (index % 3), 0.9 - 0.1 * (index % 4))
    return round(255 * red), round(255 * green), round(255 * blue)

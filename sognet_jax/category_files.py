"""The categories that a config names, and those of files: anybody's own stuff and things."""

import collections
import colorsys
import pathlib
from collections.abc import Sequence
from typing import Any

import msgspec

from sognet_jax.categories import CATEGORY_SETS, Category, CategorySet
from sognet_jax.contract import SEMANTIC_IGNORE
from sognet_jax.json_files import Notes, decode_entries, read_json
from sognet_jax.json_schemas import CategoryEntry, CategoryFile
from sognet_jax.problems import Problem, raise_if_any


def category_set(name: str | Sequence[Any], field: str = 'config field categories') -> CategorySet:
    """The categories of a name of `CATEGORY_SETS`, of a list (see `categories_from_json`), or of a `.json` file that
    has such a list by itself or as the field `categories`.

    Raises:
        ValueError: there are none of this name, or the file is missing or broken.
    """
    if isinstance(name, tuple) and len(name) == 1 and isinstance(name[0], str):
        name = name[0]  # of a flag, where the config has a tuple
    if isinstance(name, Sequence) and not isinstance(name, str):
        return categories_from_json(list(name), field)
    if isinstance(name, str) and name.endswith('.json'):
        kinds: Any = list[msgspec.Raw] | CategoryFile
        content = read_json(name, kinds)
        return _categories(content if isinstance(content, list) else content.categories, name)
    if name not in CATEGORY_SETS:
        raise ValueError(f'{field} must be one of {tuple(CATEGORY_SETS)} or a .json file, not {name!r}')
    return CATEGORY_SETS[name]


def categories_from_json(entries: Any, where: str) -> CategorySet:
    """Categories from COCO's list of them; stuff and things keep its order.

    Args:
        entries: `[{'id': 1, 'name': 'person', 'isthing': 1, 'color': [220, 20, 60]}, ...]`; colours may be missing.
            Where no entry has `isthing`, as in exports of instances, all are things.
        where: the file, for messages, and the name of the set.

    Raises:
        InputError: an entry is broken or appears twice, or there are no things, or too many categories.
    """
    return _categories([msgspec.json.encode(entry) for entry in entries], where)


def _categories(raws: Sequence[msgspec.Raw | bytes], where: str) -> CategorySet:
    problems: list[Problem] = []
    entries = list(decode_entries(pathlib.PurePath(where), 'categories', raws, CategoryEntry, problems, Notes()))
    names, ids = (collections.Counter(getattr(entry, field) for _, entry in entries) for field in ('name', 'id'))
    says_things = any(entry.isthing is not msgspec.UNSET for _, entry in entries)
    found: dict[bool, list[Category]] = {False: [], True: []}
    for index, entry in entries:
        fault = ''
        for field, counts in (('id', ids), ('name', names)):
            value = getattr(entry, field)
            if value is msgspec.UNSET:
                fault = f'has no field {field!r}'
            elif counts[value] > 1:
                fault = f'has the {field} {value!r}, as another one has'
        if says_things and entry.isthing is msgspec.UNSET:
            fault = "has no field 'isthing', which others have"
        if fault:
            problems.append(Problem('broken category', f'{where}, categories[{index}]', fault, False))
            continue
        color = _default_color(index) if entry.color is msgspec.UNSET else entry.color
        found[not says_things or bool(entry.isthing)].append(Category(entry.id, str(entry.name), color))
    categories = CategorySet(where, tuple(found[False]), tuple(found[True]))
    if not problems and not categories.things:
        text = 'has no things (isthing 1): what has stuff alone needs semantic segmentation, and not this network'
        problems.append(Problem('no things', where, text, False))
    if categories.num_classes > SEMANTIC_IGNORE:
        text = f'{categories.num_classes} categories, at most {SEMANTIC_IGNORE} can be told apart'
        problems.append(Problem('too many categories', where, text, False))
    raise_if_any(problems)
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

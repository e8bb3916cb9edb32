"""Categories of one's own: what a file may say, and how it is refused."""

import json

import pytest

from sognet_jax.categories import CATEGORY_SETS, COCO
from sognet_jax.category_files import categories_from_json, categories_to_json, category_set

STUFF = {'id': 5, 'name': 'soil', 'isthing': 0}
THING = {'id': 9, 'name': 'leaf', 'isthing': 1, 'color': [10, 200, 30]}


@pytest.mark.parametrize('name', CATEGORY_SETS)
def test_categories_survive_a_file(name, tmp_path):
    categories = CATEGORY_SETS[name]
    (tmp_path / 'own.json').write_text(json.dumps({'categories': categories_to_json(categories)}))
    read = category_set(str(tmp_path / 'own.json'))
    assert (read.stuff, read.things) == (categories.stuff, categories.things)
    assert category_set(name) is categories


def test_categories_without_colours_get_different_ones():
    entries = [{key: entry[key] for key in ('id', 'name', 'isthing')} for entry in categories_to_json(COCO)]
    colors = [category.color for category in categories_from_json(entries, 'file').all]
    assert len(set(colors)) > 120 and all(0 <= value <= 255 for color in colors for value in color)


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ({'soil': 5}, 'own.json: expected a list of categories'),
        ([STUFF, {'id': 9, 'name': 'leaf'}], "own.json: category 1 of the list has no 'isthing'"),
        ([STUFF, 'leaf'], "own.json: category 1 of the list has no 'id'"),
        ([STUFF, THING, THING | {'name': 'twig'}], 'own.json: two categories have the id 9'),
        ([STUFF, THING, THING | {'id': 10}], "own.json: two categories have the name 'leaf'"),
        ([THING], 'own.json: expected stuff and things, found 0 and 1'),
        ([STUFF] + [THING | {'id': 10 + i, 'name': str(i)} for i in range(300)], 'own.json: 301 categories'),
    ],
)
def test_broken_categories_are_named(entries, message):
    with pytest.raises(ValueError, match=message):
        categories_from_json(entries, 'own.json')


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(ValueError, match='gone.json: categories cannot be read'):
        category_set(str(tmp_path / 'gone.json'))
    (tmp_path / 'half.json').write_text('[{')
    with pytest.raises(ValueError, match='half.json is not valid JSON'):
        category_set(str(tmp_path / 'half.json'))
    with pytest.raises(ValueError, match="--other must be one of .*, not 'cocoa'"):
        category_set('cocoa', '--other')

"""Categories of one's own: what a file may say, and how it is refused."""

import json

import pytest

from sognet_jax.categories import CATEGORY_SETS, COCO
from sognet_jax.category_files import categories_from_json, categories_to_json, category_set
from sognet_jax.problems import InputError

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


def test_categories_of_things_alone_are_taken():
    """As COCO's instances have them; where no category says what it is, all are things."""
    said = [entry | {'isthing': 1} for entry in (STUFF, THING)]
    bare = [{key: entry[key] for key in ('id', 'name')} for entry in said]
    for entries in (said, bare):
        categories = categories_from_json(entries, 'file')
        assert not categories.stuff and categories.all == categories.things
        assert [(category.id, category.name) for category in categories.things] == [(5, 'soil'), (9, 'leaf')]
    assert [entry['isthing'] for entry in categories_to_json(categories)] == [1, 1]


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ([STUFF, {'id': 9, 'name': 'leaf'}], r"own.json, categories\[1\]: has no field 'isthing', which others have"),
        ([STUFF, THING | {'isthing': 'yes'}], r'own.json, categories\[1\], id 9: isthing is "yes", expected 0, 1'),
        ([STUFF, 'leaf'], r'own.json, categories\[1\]: it is "leaf", expected an object'),
        ([STUFF, {'name': 'leaf', 'isthing': 1}], r"own.json, categories\[1\]: has no field 'id'"),
        ([STUFF, {'id': 9, 'isthing': 1}], r"own.json, categories\[1\]: has no field 'name'"),
        ([STUFF, THING | {'color': [1, 2, 300]}], r'own.json, categories\[1\], id 9: color\[2\] is 300, .* <= 255'),
        ([STUFF, THING, THING | {'name': 'twig'}], r'own.json, categories\[2\]: has the id 9, as another one has'),
        ([STUFF, THING, THING | {'id': 10}], r"own.json, categories\[2\]: has the name 'leaf', as another one has"),
        ([STUFF], r'own.json: has no things \(isthing 1\)'),
        ([], r'own.json: has no things \(isthing 1\)'),
        ([STUFF] + [THING | {'id': 10 + i, 'name': str(i)} for i in range(300)], 'own.json: 301 categories, at most'),
    ],
)  # fmt: skip
def test_broken_categories_are_named(entries, message, tmp_path):
    with pytest.raises(InputError, match=f'^{message}|\n  {message}'):
        categories_from_json(entries, 'own.json')
    for content in (entries, {'categories': entries}):
        (tmp_path / 'own.json').write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            category_set(str(tmp_path / 'own.json'))


def test_all_that_is_wrong_with_categories_comes_at_once():
    doubled = [STUFF, THING, THING | {'name': 'twig'}, {'name': 'thorn'}]
    with pytest.raises(InputError) as error:
        categories_from_json(doubled, 'own.json')
    assert str(error.value).splitlines() == [
        '3 problems:',
        'broken category (2)',
        '  own.json, categories[1]: has the id 9, as another one has',
        '  own.json, categories[2]: has the id 9, as another one has',
        'broken entry of categories (1)',
        "  own.json, categories[3]: has no field 'id'",
    ]


def test_a_flag_in_place_of_a_list_is_a_file(tmp_path):
    """The config of a checkpoint has a tuple there, and so flags make one of a name."""
    (tmp_path / 'own.json').write_text(json.dumps([STUFF, THING]))
    path = str(tmp_path / 'own.json')
    assert category_set((path,)) == category_set(path) and category_set(('coco',)) == category_set('coco')


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match='gone.json: is missing'):
        category_set(str(tmp_path / 'gone.json'))
    for content, message in [
        ('[{', 'is not valid JSON'),
        ('{"soil": 5}', "has no field 'categories'"),
        ('{"categories": {"soil": 5}}', r'categories is {"soil":5}, expected a list'),
        ('5', 'it is 5, expected an object or a list'),
    ]:
        (tmp_path / 'half.json').write_text(content)
        with pytest.raises(InputError, match=f'half.json: {message}'):
            category_set(str(tmp_path / 'half.json'))
    with pytest.raises(ValueError, match="--other must be one of .*, not 'cocoa'"):
        category_set('cocoa', '--other')

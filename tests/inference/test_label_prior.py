"""Files of rules: what they say, and how broken ones are named."""

import json

import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.configs import shapes
from sognet_jax.evaluation.order_rules import PairTable, find_rules
from sognet_jax.inference.label_prior import read_label_prior
from sognet_jax.programs.mine_label_prior import mine

THINGS = [category.name for category in SHAPES.things]


def write(path, *rules):
    path.write_text(json.dumps({'rules': [{'on': on, 'under': under} for on, under in rules]}))
    return path


def test_rules_become_a_matrix(tmp_path):
    lies_on = read_label_prior(write(tmp_path / 'rules.json', ('ball', 'tray'), ('star', 'rug')), SHAPES)
    expected = np.zeros((len(THINGS), len(THINGS)), bool)
    expected[THINGS.index('ball'), THINGS.index('tray')] = expected[THINGS.index('star'), THINGS.index('rug')] = True
    np.testing.assert_array_equal(lies_on, expected)


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ([('ball', 'grass')], r"rules.json, rules\[0\]: 'grass' is no thing of shapes"),
        ([('ball', 'tray'), ('tray', 'ball')], r"rules\[1\]: 'tray' on 'ball' contradicts"),
        ([('ball', 'ball')], r"rules\[0\]: 'ball' on 'ball' contradicts"),
    ],
)
def test_rules_that_make_no_sense_are_named(tmp_path, rules, message):
    with pytest.raises(ValueError, match=message):
        read_label_prior(write(tmp_path / 'rules.json', *rules), SHAPES)


def test_files_that_are_missing_or_broken_are_named(tmp_path):
    with pytest.raises(ValueError, match='gone.json: is missing'):
        read_label_prior(tmp_path / 'gone.json', SHAPES)
    broken = {
        '{': 'is not valid JSON',
        '[]': r'it is \[\], expected an object',
        '{"rules": [{"on": "ball"}]}': r"rules\[0\]: has no field 'under'",
        '{"rules": [{"on": "ball", "under": 3}]}': r'rules\[0\]: under is 3, expected a text',
    }
    for content, message in broken.items():
        (tmp_path / 'rules.json').write_text(content)
        with pytest.raises(ValueError, match=f'rules.json.*{message}'):
            read_label_prior(tmp_path / 'rules.json', SHAPES)


def test_rules_are_what_most_pairs_say():
    """Of 10 pairs of things 0 and 1, thing 1 covers in 9; of 10 of things 2 and 0, in 6; 3 and 0 meet once."""
    classes = np.array([[0, 1]] * 9 + [[1, 0]] + [[2, 0]] * 10 + [[3, 0]])
    covered = np.array([0] * 9 + [0] + [0] * 6 + [1] * 4 + [0])
    table = PairTable(classes, np.zeros((len(classes), 2, 4)), covered)
    rule = {'on': THINGS[1], 'under': THINGS[0], 'pairs': 10, 'share': 0.9}
    assert find_rules(table, SHAPES, 5, 0.9) == [rule]
    assert find_rules(table, SHAPES, 1, 0.95) == [{'on': THINGS[0], 'under': THINGS[3], 'pairs': 1, 'share': 1.0}]
    assert [found['share'] for found in find_rules(table, SHAPES, 10, 0.5)] == [0.9, 0.6]


def test_mined_rules_can_be_read(tmp_path):
    config = shapes.get_config()
    config.data.update(dir=str(tmp_path), num_train=60, num_validation=1)
    rules, pairs = mine(config, tmp_path / 'deep' / 'rules.json', least_pairs=2)
    stored = json.loads((tmp_path / 'deep' / 'rules.json').read_text())
    assert stored['rules'] and all(rule['share'] >= 0.9 and rule['pairs'] >= 2 for rule in stored['rules'])
    assert read_label_prior(tmp_path / 'deep' / 'rules.json', SHAPES).sum() == len(stored['rules'])
    assert (rules, pairs) == (len(stored['rules']), stored['pairs'])

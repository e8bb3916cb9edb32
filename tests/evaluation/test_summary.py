"""What an evaluation says besides its numbers."""

import math

import numpy as np
import pytest

from sognet_jax.evaluation.order_accuracy import OrderTally
from sognet_jax.evaluation.summary import table, verdict


def order_metrics(strength):
    """The metrics of two images with three ordered pairs, all with an O of `strength` on the right side."""
    tally = OrderTally()
    for pairs in ([(0, 1)], [(0, 1), (1, 2)]):
        order = np.zeros((3, 3), bool)
        order[tuple(np.transpose(pairs))] = True
        tally.add(strength * order, order, np.zeros_like(order), np.ones_like(order))
    return tally.metrics()


@pytest.mark.parametrize(('strength', 'accuracy'), [(0.0, 0), (0.49, 0), (0.5, 100)])
def test_silence_is_said_under_the_table(strength, accuracy):
    metrics = order_metrics(strength)
    assert metrics['order_accuracy'] == metrics['pairs_related'] == accuracy and metrics['order_pairs'] == 3
    assert ('WARNING: O stays below 0.5 on all of the 3 pairs' in table(metrics)) == (accuracy == 0)


def test_one_pair_the_wrong_way_round_is_no_silence():
    tally, order = OrderTally(), np.array([[False, True], [False, False]])
    tally.add(order.T.astype(float), order, order, np.ones_like(order))
    metrics = tally.metrics()
    assert metrics['order_accuracy'] == 0 and metrics['pairs_related'] == 100 and 'WARNING' not in table(metrics)


def test_without_a_pair_there_is_nothing_to_be_silent_about():
    tally = OrderTally()
    tally.add(np.zeros((2, 2)), np.zeros((2, 2), bool), np.zeros((2, 2), bool), np.ones((2, 2), bool))
    assert math.isnan(tally.metrics()['pairs_related']) and 'WARNING' not in table(tally.metrics())
    assert OrderTally().metrics() == {}


@pytest.mark.parametrize(
    ('expected', 'says'),
    [
        ({}, ''),
        ({'mIoU': 50.0}, ''),
        ({'PQ': 60.0}, 'This run reached what its config expects: PQ 61.3 (at least 60)'),
        ({'PQ': 61.3, 'OA': 90.5}, 'THIS RUN FELL SHORT of what its config expects: PQ 61.3 (at least 61.3), OA 89.9'),
        ({'OA': 90.0, 'mIoU': 50.0}, 'THIS RUN FELL SHORT of what its config expects: OA 89.9 (at least 90)'),
    ],
)
def test_a_run_is_held_against_what_its_config_expects(expected, says):
    assert verdict({'PQ': 61.3, 'OA': 89.9}, expected).startswith(says)
    assert bool(says) == bool(verdict({'PQ': 61.3, 'OA': 89.9}, expected))

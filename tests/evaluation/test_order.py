"""Overlap accuracy, order accuracy and the simple rules."""

import numpy as np
import pytest

from sognet_jax.evaluation import order_rules
from sognet_jax.evaluation.order_accuracy import OrderAccuracy, overlap_accuracy
from sognet_jax.evaluation.semantic_iou import confusion_matrix, mean_iou
from tests.support.combined_rule import fit_combined_rule


def random_image(rng, number):
    """O and R* of one image; about half of the pairs overlap."""
    pairs = np.triu(rng.uniform(size=(number, number)) < 0.5, 1)
    swap = rng.uniform(size=(number, number)) < 0.5
    order = (pairs & swap) | (pairs & ~swap).T
    return rng.uniform(size=(number, number)), order


@pytest.mark.parametrize('number', [2, 3, 7])
def test_accuracies_are_the_definitions_written_as_loops(number):
    rng = np.random.default_rng(number)
    relations, order = random_image(rng, number)
    hits = right = total = 0
    for i in range(number):
        for j in range(number):
            if i == j:
                continue
            true_positive = order[i, j] and relations[i, j] >= 0.5
            true_negative = not order[i, j] and relations[i, j] < 0.5
            hits += true_positive or true_negative
            if order[i, j]:
                total += 1
                right += relations[i, j] >= 0.5 and relations[j, i] < 0.5
    assert overlap_accuracy(relations, order) == pytest.approx(hits / (number * (number - 1)))
    accuracy = OrderAccuracy()
    accuracy.add(relations, order)
    assert (accuracy.right, accuracy.total) == (right, total)


def test_no_relation_at_all_scores_in_eq_15_but_not_in_order_accuracy():
    _, order = random_image(np.random.default_rng(0), 6)
    accuracy = OrderAccuracy()
    accuracy.add(np.zeros((6, 6)), order)
    assert accuracy.value == 0 and overlap_accuracy(np.zeros((6, 6)), order) > 0.5
    assert np.isnan(overlap_accuracy(np.zeros((1, 1)), np.zeros((1, 1), bool)))


def table(rng, number, decide):
    classes = rng.integers(0, 4, (number, 2))
    corners = rng.uniform(0, 50, (number, 2, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (number, 2, 2))], axis=-1)
    return order_rules.PairTable(classes, boxes, decide(classes, boxes))


def by_class(classes, boxes):
    return (classes[:, 0] > classes[:, 1]).astype(int)  # the lower class number is covered


def by_lower_edge(classes, boxes):
    return (boxes[:, 0, 3] > boxes[:, 1, 3]).astype(int)  # the one whose lower edge is higher up is covered


def by_both(classes, boxes):
    return np.where(classes[:, 0] == classes[:, 1], by_lower_edge(classes, boxes), by_class(classes, boxes))


def test_each_rule_finds_what_it_can_see_and_nothing_else():
    rng = np.random.default_rng(0)
    category, geometry = order_rules.fit_category_rule, order_rules.fit_geometry_rule
    for decide, fit, low, high in (
        (by_lower_edge, geometry, 0.999, 1),
        (by_lower_edge, category, 0.4, 0.6),
        (by_class, geometry, 0.4, 0.65),
        (by_both, fit_combined_rule, 0.99, 1),
        (by_both, category, 0.8, 0.95),
    ):
        rule = fit(table(rng, 2000, decide))
        assert low <= order_rules.accuracy(rule, table(rng, 2000, decide)) <= high, (decide, fit)


@pytest.mark.parametrize('fit', [order_rules.fit_category_rule, order_rules.fit_geometry_rule, fit_combined_rule])
def test_rules_do_not_depend_on_which_instance_comes_first(fit):
    rng = np.random.default_rng(1)
    rule = fit(table(rng, 300, by_both))
    pairs = table(rng, 300, by_both)
    np.testing.assert_allclose(rule(pairs) + rule(pairs.mirrored()), 1)


def test_rules_of_nothing_know_nothing():
    nothing = order_rules.PairTable.concatenate([])
    pairs = table(np.random.default_rng(2), 5, by_class)
    assert order_rules.accuracy(order_rules.fit_category_rule(nothing), pairs) == 0.5
    assert np.isnan(order_rules.accuracy(order_rules.fit_category_rule(pairs), nothing))


def test_mean_iou_is_the_mean_over_classes_that_occur():
    truth = np.array([[0, 0, 1, 255]])
    prediction = np.array([[0, 1, 1, 2]])
    confusion = confusion_matrix(truth, prediction, 4)
    assert confusion.sum() == 3
    assert mean_iou(confusion) == pytest.approx((1 / 2 + 1 / 2) / 2)

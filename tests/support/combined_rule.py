"""A rule that sees both categories and boxes: as far as the order of a data set can be told without a network."""

import numpy as np

from sognet_jax.evaluation.order_rules import PairTable, Rule, count_covers, fit_category_rule, fit_geometry_rule


def fit_combined_rule(table: PairTable) -> Rule:
    """A rule with both: for each pair of classes its majority or the geometry rule fitted on such pairs, the better.

    Geometry is fitted where no class pair decides, that is, on pairs whose majority is at most 80 %.
    """
    category = fit_category_rule(table)
    num_classes = int(table.classes.max(initial=-1)) + 1
    votes = count_covers(table, num_classes)
    total = votes + votes.T
    decided = np.maximum(votes, votes.T) > 0.8 * np.maximum(total, 1)

    def by_category(pairs: PairTable) -> np.ndarray:
        known = np.all(pairs.classes < num_classes, axis=1)
        first, second = np.where(known[:, None], pairs.classes, 0).T
        return known & (first != second) & (decided[first, second] if num_classes else False)

    rest = ~by_category(table)
    geometry = fit_geometry_rule(PairTable(table.classes[rest], table.boxes[rest], table.covered[rest]))
    return lambda pairs: np.where(by_category(pairs), category(pairs), geometry(pairs))

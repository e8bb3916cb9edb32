"""How well O tells who covers whom: overlap accuracy, Eq. (15), and order accuracy.

Most pairs do not touch, so that O = 0 everywhere has a high overlap accuracy; order accuracy looks at the pairs that
overlap, and at those alone whose order is known.
"""

import dataclasses
import math
from typing import Self

import numpy as np

from sognet_jax.evaluation.summary import Metrics
from sognet_jax.scene import THRESHOLD


def overlap_accuracy(relations: np.ndarray, order: np.ndarray, decided: np.ndarray | None = None) -> float:
    """OA of one image, Eq. (15): the share, in 0..1, of ordered pairs on which O >= 0.5 agrees with R*; NaN of none.

    Args:
        relations: `[n, n]` O.
        order: `[n, n]` bool R* (or the true order).
        decided: `[n, n]` bool, the pairs that count; None for all.
    """
    counts = ~np.eye(len(order), dtype=bool)
    if decided is not None:
        counts &= decided
    return float(((relations >= THRESHOLD) == order)[counts].mean()) if counts.any() else float('nan')


@dataclasses.dataclass
class OrderAccuracy:
    """The share of overlapping pairs of known order with O >= 0.5 on the right side and below on the other."""

    right: int = 0
    total: int = 0

    def add(self, relations: np.ndarray, order: np.ndarray) -> None:
        """Counts one image.

        Args:
            relations: `[n, n]` O; pairs with NaN are not counted.
            order: `[n, n]` bool, true where i is covered by j; at most one of order_ij, order_ji.
        """
        covered, covering = np.nonzero(order & ~np.isnan(relations))
        says_so = relations[covered, covering] >= THRESHOLD
        denies_other = relations[covering, covered] < THRESHOLD
        self.right += int(np.count_nonzero(says_so & denies_other))
        self.total += len(covered)

    def __iadd__(self, other: Self) -> Self:
        self.right += other.right
        self.total += other.total
        return self

    @property
    def value(self) -> float:
        """The accuracy in 0..1; NaN before any pair."""
        return self.right / self.total if self.total else float('nan')


class OrderTally:
    """Overlap accuracy, Eq. (15), and order accuracy, against R* and against the true order."""

    def __init__(self) -> None:
        self._overlap: list[list[float]] = []
        self._order, self._true_order = OrderAccuracy(), OrderAccuracy()
        self._related = 0

    def add(self, relations: np.ndarray, order: np.ndarray, true_order: np.ndarray, decided: np.ndarray) -> None:
        """Counts one image.

        Args:
            relations: `[n, n]` O of the annotated instances.
            order, true_order: `[n, n]` bool R*, and the order that a scene was drawn in; i is covered by j.
            decided: `[n, n]` bool, pairs of which R* is known; those that do not overlap are among them.
        """
        nothing = np.zeros_like(relations)
        self._overlap.append(
            [
                overlap_accuracy(o, of, counts)
                for of, counts in ((order, decided), (true_order, None))
                for o in (relations, nothing)
            ]
        )
        self._order.add(relations, order)
        self._true_order.add(relations, true_order)
        self._related += int(np.count_nonzero(order & (np.maximum(relations, relations.T) >= THRESHOLD)))

    def __iadd__(self, other: Self) -> Self:
        self._overlap += other._overlap
        self._order += other._order
        self._true_order += other._true_order
        self._related += other._related
        return self

    def metrics(self) -> Metrics:
        """In percent; NaN where there is nothing to measure, no true order where none is known."""
        if not self._overlap:
            return {}
        known = [row for row in self._overlap if not math.isnan(row[0])]
        # `fsum` rounds once, so that the order of the images does not matter.
        overlap = [100 * math.fsum(column) / len(known) for column in zip(*known, strict=True)] or [math.nan] * 4
        pairs = self._order.total
        metrics = {'OA': overlap[0], 'OA_zero': overlap[1]}
        metrics |= {'order_accuracy': 100 * self._order.value, 'order_pairs': pairs}
        # O = 0 names no order, so that it is right on no pair.
        metrics['order_accuracy_zero'] = 0.0 if pairs else math.nan
        metrics['pairs_related'] = 100 * self._related / pairs if pairs else math.nan
        if self._true_order.total:
            metrics |= {'OA_true': overlap[2], 'OA_zero_true': overlap[3]}
            metrics |= {'order_accuracy_true': 100 * self._true_order.value, 'order_accuracy_true_zero': 0.0}
        return metrics

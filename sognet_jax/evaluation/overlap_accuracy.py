"""How well O tells who covers whom: overlap accuracy, Eq. (15), and order accuracy (DESIGN section 5.8)."""

from __future__ import annotations

import dataclasses

import numpy as np

THRESHOLD = 0.5


def overlap_accuracy(relations: np.ndarray, order: np.ndarray, decided: np.ndarray | None = None) -> float:
    """OA of one image, Eq. (15): the share of ordered pairs on which O >= 0.5 agrees with R*.

    Most pairs do not touch, so that O = 0 everywhere already scores high.

    Args:
        relations: `[n, n]` O.
        order: `[n, n]` bool R* (or the true order).
        decided: `[n, n]` bool, the pairs that count; None for all.

    Returns:
        The accuracy in 0..1; NaN without a pair.
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

    @property
    def value(self) -> float:
        """The accuracy in 0..1; NaN before any pair."""
        return self.right / self.total if self.total else float('nan')

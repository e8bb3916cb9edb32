"""What a running training says of the relations that it learns, and that they stay silent."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Self

SILENT = 1.0
"""A relation head that relates less than so many percent of the overlapping pairs says nothing."""


@dataclasses.dataclass(frozen=True)
class PairShares:
    """The counts of `relation.count_pairs` as shares in percent, NaN over nothing."""

    overlapping: int  # how many pairs have R = 1
    related: float  # share of them with O >= 0.5 one way or the other
    saturated: float  # share of them whose potentials M have no gradient left
    order_accuracy: float  # share of the pairs of known order with O >= 0.5 on the right side

    @classmethod
    def of(cls, counts: Mapping[str, float]) -> Self:
        """The shares of summed counts."""

        def share(part: str, whole: str) -> float:
            return 100 * counts[part] / counts[whole] if counts[whole] else math.nan

        return cls(
            overlapping=round(counts['overlapping_pairs']),
            related=share('related_pairs', 'overlapping_pairs'),
            saturated=share('saturated_pairs', 'overlapping_pairs'),
            order_accuracy=share('rightly_ordered_pairs', 'ordered_pairs'),
        )


class RelationWatch:
    """Finds a relation head that stays silent while instances overlap.

    Args:
        warmup_steps: of the learning rate; nothing is expected before their end.
        patience: log lines in a row that may be silent; lines without an overlapping pair do not count.
    """

    def __init__(self, warmup_steps: int, patience: int) -> None:
        self._warmup_steps = warmup_steps
        self._patience = patience
        self._silent_lines = 0
        self.warning = ''  # what is to be said as long as the head is silent

    def look(self, step: int, shares: PairShares) -> bool:
        """Takes the pairs of one log line; whether a warning is due: it is the last that may be silent."""
        if step <= self._warmup_steps or not shares.overlapping:
            return False
        if shares.related >= SILENT:
            self._silent_lines, self.warning = 0, ''
            return False
        self._silent_lines += 1
        if self._silent_lines < self._patience:
            return False
        is_new = not self.warning
        self.warning = f'WARNING: step {step}: {_description(shares, self._silent_lines)}'
        return is_new


def _description(shares: PairShares, lines: int) -> str:
    """What is wrong, and the likely cause."""
    if math.isnan(shares.order_accuracy):
        cause = (
            "the data tell the order of no pair, which 'order' and 'order_cross_entropy' learn from; "
            "objective.relation_loss = 'overlap' does without"
        )
    elif shares.saturated >= 50:
        cause = (
            f"on {shares.saturated:.0f} % of them both potentials are saturated, where 'overlap' and 'order' have no "
            "gradient: objective.relation_loss = 'order_cross_entropy' has one, a smaller objective.weights.relation "
            'would have kept them out of there'
        )
    else:
        cause = (
            f'the two potentials of a pair have not grown apart (saturated: {shares.saturated:.0f} %): '
            "objective.relation_loss = 'order_cross_entropy', a larger objective.weights.relation or "
            'model.relation.nonlinear_geometry = True may be missing'
        )
    return (
        f'the relation head says nothing: over {lines} log lines O >= 0.5 on less than {SILENT:g} % of the overlapping '
        f'pairs, now on {shares.related:.1f} % of {shares.overlapping}; {cause}'
    )

"""Simple rules for who covers whom, fitted on training annotations: what a network's order accuracy is held against.

A rule gives each pair the probability that its first instance is covered by its second: 1, 0, or 0.5 where it does not
know, which counts as half right.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.summary import Metrics


@dataclasses.dataclass(frozen=True)
class PairTable:
    """Overlapping pairs whose order is known."""

    classes: np.ndarray  # `[p, 2]` thing classes of the first and second instance
    boxes: np.ndarray  # `[p, 2, 4]` their half-open boxes, in any one unit per image
    covered: np.ndarray  # `[p]` 0: the first is covered, 1: the second

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        """All pairs of several tables."""
        return cls(
            np.concatenate([np.zeros((0, 2), np.int64), *(table.classes for table in tables)]),
            np.concatenate([np.zeros((0, 2, 4)), *(table.boxes for table in tables)]),
            np.concatenate([np.zeros(0, np.int64), *(table.covered for table in tables)]),
        )

    def mirrored(self) -> Self:
        """The same pairs with first and second exchanged."""
        return type(self)(self.classes[:, ::-1], self.boxes[:, ::-1], 1 - self.covered)


Rule = Callable[[PairTable], np.ndarray]


def accuracy(rule: Rule, table: PairTable) -> float:
    """The expected share of pairs that a rule gets right, in 0..1; NaN without a pair."""
    if not len(table.covered):
        return float('nan')
    says_first = rule(table)
    return float(np.where(table.covered == 0, says_first, 1 - says_first).mean())


def count_covers(table: PairTable, num_classes: int) -> np.ndarray:
    """`[C, C]` how often an instance of class a was covered by one of class b."""
    counts = np.zeros((num_classes, num_classes))
    first, second = table.classes.T
    covered = np.where(table.covered == 0, first, second)
    covering = np.where(table.covered == 0, second, first)
    np.add.at(counts, (covered, covering), 1)
    return counts


def fit_category_rule(table: PairTable) -> Rule:
    """The best rule that sees categories alone: the majority of each pair of classes.

    Pairs of one class, and of classes that never met, stay undecided.
    """
    num_classes = int(table.classes.max(initial=-1)) + 1
    votes = count_covers(table, num_classes)

    def rule(pairs: PairTable) -> np.ndarray:
        first, second = pairs.classes.T
        known = (first < num_classes) & (second < num_classes)
        first, second = np.where(known, first, 0), np.where(known, second, 0)
        lead = votes[first, second] - votes[second, first] if num_classes else np.zeros(len(first))
        return np.where(known, 0.5 + 0.5 * np.sign(lead), 0.5)

    return rule


def fit_geometry_rule(table: PairTable) -> Rule:
    """The best rule that sees boxes alone, of a family: one feature's sign, or a table over two features.

    The single features are the differences of lower edge, upper edge, centre and area, in either direction. The table
    has cells over (difference of lower edges over mean height, log ratio of areas) and takes the majority of each.
    """
    candidates = [_sign_rule(index, sign) for index in range(len(_features(table.boxes[:0]))) for sign in (1, -1)]
    candidates.append(_fit_table_rule(table))
    return max(candidates, key=lambda rule: np.nan_to_num(accuracy(rule, table)))


RULES = {'category': fit_category_rule, 'geometry': fit_geometry_rule}


def known_pairs(source: RecordSource, title: str) -> tuple[PairTable, PairTable]:
    """All pairs whose order R* tells, and all whose true order is known; shows progress where that takes long."""
    progress = tqdm(range(len(source)), desc=f'{title} pairs', unit='image', delay=2)
    tables = [_tables(source[index]) for index in progress]
    return PairTable.concatenate([row[0] for row in tables]), PairTable.concatenate([row[1] for row in tables])


def rule_metrics(train: RecordSource, validation: RecordSource) -> Metrics:
    """Order accuracy, in percent, of the simple rules fitted on the training annotations."""
    metrics: Metrics = {}
    tables = known_pairs(train, 'training'), known_pairs(validation, 'validation')
    for suffix, fitting, testing in zip(('', '_true'), *tables, strict=True):
        if not len(fitting.covered) or not len(testing.covered):
            continue
        for name, fit in RULES.items():
            metrics[f'order_accuracy{suffix}_{name}_rule'] = 100 * accuracy(fit(fitting), testing)
    return metrics


def _tables(record: Record) -> tuple[PairTable, PairTable]:
    """The pairs of an image whose order is known: by R*, and truly."""
    pairs = record.pairs
    tables = []
    for covered in (pairs.covered, pairs.truly_covered):
        known = covered >= 0
        ends = np.stack([pairs.first[known], pairs.second[known]], axis=-1)
        tables.append(PairTable(record.instances.category[ends], record.instances.box[ends], covered[known]))
    return tables[0], tables[1]


def find_rules(table: PairTable, categories: CategorySet, least_pairs: int, least_share: float) -> list[dict[str, Any]]:
    """The rules that pairs of known order give, those with the most pairs first; see `inference.label_prior`."""
    covers = count_covers(table, categories.num_things).T  # [a, b]: a lay on b
    pairs = covers + covers.T
    share = covers / np.maximum(pairs, 1)
    on, under = np.nonzero((pairs >= least_pairs) & (share >= least_share) & (share > 0.5))
    rules = [
        {
            'on': categories.things[a].name,
            'under': categories.things[b].name,
            'pairs': int(pairs[a, b]),
            'share': round(float(share[a, b]), 4),
        }
        for a, b in zip(on, under, strict=True)
    ]
    return sorted(rules, key=lambda rule: (-rule['pairs'], rule['on'], rule['under']))


def _features(boxes: np.ndarray) -> list[np.ndarray]:
    """Antisymmetric features of pairs `[p, 2, 4]`: positive where the first has more of something."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    area = (x2 - x1) * (y2 - y1)
    return [value[:, 0] - value[:, 1] for value in (y2, y1, y1 + y2, x1 + x2, area)]


def _sign_rule(index: int, sign: int) -> Rule:
    return lambda pairs: 0.5 - 0.5 * np.sign(sign * _features(pairs.boxes)[index])


def _fit_table_rule(table: PairTable, bins: int = 12) -> Rule:
    def cells(pairs: PairTable) -> np.ndarray:
        heights = (pairs.boxes[:, :, 3] - pairs.boxes[:, :, 1]).mean(axis=1)
        areas = np.prod(pairs.boxes[:, :, 2:] - pairs.boxes[:, :, :2], axis=-1)
        lower = (pairs.boxes[:, 0, 3] - pairs.boxes[:, 1, 3]) / np.maximum(heights, 1e-6)
        ratio = np.log(np.maximum(areas[:, 0], 1e-6) / np.maximum(areas[:, 1], 1e-6))
        place = [np.clip((value / limit + 1) / 2 * bins, 0, bins - 1) for value, limit in ((lower, 1.2), (ratio, 4.0))]
        return place[0].astype(int) * bins + place[1].astype(int)

    # Seen from both sides, so that the rule does not depend on which instance comes first.
    lead = np.zeros(bins * bins)
    for side in (table, table.mirrored()):
        np.add.at(lead, cells(side), np.where(side.covered == 0, 1.0, -1.0))
    return lambda pairs: 0.5 + 0.25 * (np.sign(lead[cells(pairs)]) - np.sign(lead[cells(pairs.mirrored())]))

"""The pairs of a data set whose order is known, and how far simple rules fitted on them get."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation import order_rules
from sognet_jax.evaluation.order_rules import PairTable
from sognet_jax.evaluation.summary import Metrics

RULES = {'category': order_rules.fit_category_rule, 'geometry': order_rules.fit_geometry_rule}


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
            metrics[f'order_accuracy{suffix}_{name}_rule'] = 100 * order_rules.accuracy(fit(fitting), testing)
    return metrics


def order_agreement(source: RecordSource) -> float:
    """In which share of the pairs whose true order is known, in 0..1, R* says the same; where it does not know, no."""
    agrees = total = 0
    for index in range(len(source)):
        pairs = source[index].pairs
        known = pairs.truly_covered >= 0
        agrees += int(np.count_nonzero(pairs.covered[known] == pairs.truly_covered[known]))
        total += int(np.count_nonzero(known))
    return agrees / total if total else float('nan')


def _tables(record: Record) -> tuple[PairTable, PairTable]:
    """The pairs of an image whose order is known: by R*, and truly."""
    pairs = record.pairs
    tables = []
    for covered in (pairs.covered, pairs.truly_covered):
        known = covered >= 0
        ends = np.stack([pairs.first[known], pairs.second[known]], axis=-1)
        tables.append(PairTable(record.instances.category[ends], record.instances.box[ends], covered[known]))
    return tables[0], tables[1]

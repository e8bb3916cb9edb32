"""All metrics of a run in one flat dictionary, as a table and as JSON."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.evaluation.panoptic_quality import PanopticCounts

Metrics = dict[str, float]


def panoptic_metrics(counts: PanopticCounts, categories: CategorySet) -> Metrics:
    """PQ, SQ, RQ in percent: all, `_things`, `_stuff`, and PQ of each class as `PQ/name`."""
    is_thing = np.arange(categories.num_classes) >= categories.num_stuff
    metrics: Metrics = {}
    for suffix, chosen in (('', None), ('_things', is_thing), ('_stuff', ~is_thing)):
        summary = counts.summary(chosen)
        metrics |= {f'{name}{suffix}': 100 * summary[name] for name in ('PQ', 'SQ', 'RQ')}
    quality = counts.quality()['PQ']
    for index, category in enumerate(categories.all):
        if counts.counted[index]:
            metrics[f'PQ/{category.name}'] = 100 * float(quality[index])
    return metrics


def table(metrics: Mapping[str, float]) -> str:
    """The metrics as aligned text."""

    def number(name: str) -> str:
        value = metrics.get(name, math.nan)
        return '     -' if math.isnan(value) else f'{value:6.1f}'

    lines = ['            PQ      SQ      RQ']
    for title, suffix in (('all', ''), ('things', '_things'), ('stuff', '_stuff')):
        lines.append(f'{title:<8}' + '  '.join(number(f'{name}{suffix}') for name in ('PQ', 'SQ', 'RQ')))
    per_class = [name for name in metrics if name.startswith('PQ/')]
    if per_class:
        lines += ['', 'PQ of each class']
        columns = [f'{name[3:]:<14.14}{number(name)}' for name in per_class]
        lines += ['    '.join(columns[start : start + 4]) for start in range(0, len(columns), 4)]
    lines += ['', f'mIoU of the semantic head      {number("mIoU")}', '']
    lines.append('who covers whom, on ground truth instances')
    lines.append('                                   R*    true order')
    rows = (
        ('overlap accuracy (Eq. 15)', 'OA'),
        ('  with O = 0', 'OA_zero'),
        ('order accuracy', 'order_accuracy'),
        ('  with O = 0', 'order_accuracy_zero'),
        ('  best category-only rule', 'order_accuracy_category_rule'),
        ('  best geometry-only rule', 'order_accuracy_geometry_rule'),
    )
    for title, name in rows:
        true_name = name.replace('order_accuracy', 'order_accuracy_true') if 'order' in name else f'{name}_true'
        lines.append(f'{title:<30} {number(name)}      {number(true_name)}')
    return '\n'.join(lines)


def write_json(path: pathlib.Path, metrics: Mapping[str, float]) -> None:
    """Writes the metrics; values that do not exist (no overlapping pair, say) become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: None if math.isnan(value) else round(value, 4) for name, value in metrics.items()}
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=2) + '\n')
    os.replace(partial, path)

"""All metrics of a run in one flat dictionary, as a table and as JSON."""

import json
import math
import pathlib
from collections.abc import Mapping

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.evaluation.panoptic_quality import PanopticCounts
from sognet_jax.files import write_whole

Metrics = dict[str, float]

FUSIONS = {
    'heuristics': 'heuristics',
    'label_prior': 'label prior',
    'occlusion_head': 'occlusion head',
    'zero': 'O = 0',
    'head_1': 'panoptic head 1',
    'head_2': 'panoptic head 2',
    'true_order': 'true order',
}
"""The ways to fuse one network's detections that overlap pixels compare: ends of the metrics' names, and titles."""


def panoptic_metrics(counts: PanopticCounts, categories: CategorySet) -> Metrics:
    """PQ, SQ, RQ in percent: all, `_things`, `_stuff`, and of each class that occurs (`PQ/name`); NaN over none."""
    # In the order of the data set's own ids, as the official evaluation adds them up.
    order = np.argsort([category.id for category in categories.all])
    is_thing = order >= categories.num_stuff
    metrics: Metrics = {}
    for suffix, chosen in (('', order), ('_things', order[is_thing]), ('_stuff', order[~is_thing])):
        summary = counts.summary(chosen)
        metrics |= {f'{name}{suffix}': 100 * summary[name] if summary['n'] else math.nan for name in ('PQ', 'SQ', 'RQ')}
    quality, counted = counts.quality(), counts.counted
    for name, values in quality.items():
        for index in np.flatnonzero(counted).tolist():
            metrics[f'{name}/{categories.all[index].name}'] = 100 * float(values[index])
    return metrics


def table(metrics: Mapping[str, float]) -> str:
    """The metrics as aligned text; what was not measured is left out."""
    parts = [_panoptic_lines(metrics)] if 'PQ' in metrics else []
    if 'mIoU' in metrics:
        parts.append([f'mIoU of the semantic head      {_number(metrics, "mIoU")}'])
    if 'mask_AP' in metrics:
        parts.append(_instance_lines(metrics))
    if 'OA' in metrics:
        parts.append(_relation_lines(metrics))
    if 'overlap_pixels' in metrics:
        parts.append(_overlap_pixel_lines(metrics))
    return '\n\n'.join('\n'.join(lines) for lines in parts)


def _number(metrics: Mapping[str, float], name: str) -> str:
    value = metrics.get(name, math.nan)
    return '     -' if math.isnan(value) else f'{value:6.1f}'


def _panoptic_lines(metrics: Mapping[str, float]) -> list[str]:
    lines = ['            PQ      SQ      RQ']
    for title, suffix in (('all', ''), ('things', '_things'), ('stuff', '_stuff')):
        lines.append(f'{title:<8}' + '  '.join(_number(metrics, f'{name}{suffix}') for name in ('PQ', 'SQ', 'RQ')))
    per_class = [name for name in metrics if name.startswith('PQ/')]
    if per_class:
        lines += ['', 'PQ of each class']
        columns = [f'{name[3:]:<14.14}{_number(metrics, name)}' for name in per_class]
        lines += ['    '.join(columns[start : start + 4]) for start in range(0, len(columns), 4)]
    return lines


def _instance_lines(metrics: Mapping[str, float]) -> list[str]:
    names = ('AP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large')
    lines = ['            ' + '  '.join(f'{name.replace("AP_", ""):>6}' for name in names)]
    for title, kind in (('masks', 'mask'), ('boxes', 'box')):
        lines.append(f'{title:<12}' + '  '.join(_number(metrics, f'{kind}_{name}') for name in names))
    return lines


def _relation_lines(metrics: Mapping[str, float]) -> list[str]:
    lines = ['who covers whom, on ground truth instances', '                                   R*    true order']
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
        lines.append(f'{title:<30} {_number(metrics, name)}      {_number(metrics, true_name)}')
    pairs = int(metrics['order_pairs'])
    if 'order_accuracy_predicted' in metrics:
        value, found = _number(metrics, 'order_accuracy_predicted'), int(metrics['order_pairs_predicted'])
        lines.append(f'{"order accuracy, found instances":<31}{value}      ({found} of {pairs} pairs)')
    if metrics.get('pairs_related') == 0:
        lines += ['', f'WARNING: O stays below 0.5 on all of the {pairs} pairs: the relation head has learned no order']
    return lines


def _overlap_pixel_lines(metrics: Mapping[str, float]) -> list[str]:
    columns = ('overlap_pixels', 'overlap_pixels_same_class')
    lines = ['overlap pixels given to the right one', '                   all  of one class']
    for name, title in FUSIONS.items():
        if f'overlap_pixels/{name}' in metrics:
            lines.append(f'{title:<16}' + '        '.join(_number(metrics, f'{column}/{name}') for column in columns))
    return [*lines, f'{"of so many":<16}' + '        '.join(f'{int(metrics[column]):>6,}' for column in columns)]


def verdict(metrics: Mapping[str, float], expected: Mapping[str, float]) -> str:
    """Whether a run has reached the least values that its config expects of some metrics, in one line; empty where none
    of them was measured.
    """
    measured = {name: least for name, least in expected.items() if name in metrics}
    if not measured:
        return ''
    compared = [f'{name} {metrics[name]:.1f} (at least {least:g})' for name, least in measured.items()]
    reached = all(metrics[name] >= least for name, least in measured.items())
    says = 'This run reached what its config expects' if reached else 'THIS RUN FELL SHORT of what its config expects'
    return f'{says}: {", ".join(compared)}'


def write_json(path: pathlib.Path, metrics: Mapping[str, float]) -> None:
    """Writes the metrics; values that do not exist (no overlapping pair, say) become null."""
    content = {name: None if math.isnan(value) else round(value, 4) for name, value in metrics.items()}
    write_whole(path, json.dumps(content, indent=2) + '\n')

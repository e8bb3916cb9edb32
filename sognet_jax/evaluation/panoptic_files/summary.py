"""The numbers of an evaluation of panoptic files, as the official evaluation prints them."""

from typing import Any

import numpy as np

from sognet_jax.evaluation.panoptic_files.scoring import FileEvaluation

GROUPS = ('All', 'Things', 'Stuff')


def panoptic_file_metrics(evaluation: FileEvaluation) -> dict[str, Any]:
    """All numbers, in 0..1 and not rounded.

    Returns:
        `All`, `Things`, `Stuff`: `PQ`, `SQ`, `RQ`, and `N`, the number of categories that occur (without one, the
        others are 0); and `per_class`: by category id, `name`, `isthing`, `PQ`, `SQ`, `RQ`, the sum `iou` of the true
        positives' IoU, and `tp`, `fp`, `fn`.
    """
    categories, counts = evaluation.categories, evaluation.counts
    is_thing = np.array([category.is_thing for category in categories], bool)
    metrics: dict[str, Any] = {}
    for name, chosen in zip(GROUPS, (None, is_thing, ~is_thing), strict=True):
        summary = counts.summary(chosen)
        metrics[name] = {key: summary[key] for key in ('PQ', 'SQ', 'RQ')} | {'N': summary['n']}
    columns = counts.quality() | {
        'iou': counts.iou,
        'tp': counts.true_positives,
        'fp': counts.false_positives,
        'fn': counts.false_negatives,
    }
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    metrics['per_class'] = {
        str(category.id): {'name': category.name, 'isthing': int(category.is_thing)}
        | dict(zip(columns, row, strict=True))
        for category, row in zip(categories, values, strict=True)
    }
    return metrics


def panoptic_table(metrics: dict[str, Any]) -> str:
    """The metrics in percent as aligned text; of the classes those that occur."""
    classes = [row for row in metrics['per_class'].values() if row['tp'] + row['fp'] + row['fn']]
    width = max(len(name) for name in [*GROUPS, *(row['name'] for row in classes)])
    lines = [f'{"":{width}}     PQ     SQ     RQ      N']
    lines += [f'{name:{width}}{_percentages(metrics[name])}{metrics[name]["N"]:7d}' for name in GROUPS]
    lines += ['', f'{"":{width}}     PQ     SQ     RQ     TP     FP     FN']
    for row in classes:
        lines.append(f'{row["name"]:{width}}{_percentages(row)}{row["tp"]:7d}{row["fp"]:7d}{row["fn"]:7d}')
    return '\n'.join(lines)


def _percentages(row: dict[str, Any]) -> str:
    """A dash where no category occurs."""
    return ''.join(f'{"-":>7}' if row.get('N') == 0 else f'{100 * row[name]:7.1f}' for name in ('PQ', 'SQ', 'RQ'))

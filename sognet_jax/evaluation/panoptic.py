r"""Panoptic quality of anybody's predictions in COCO's panoptic format, as the official panopticapi computes it.

    python -m sognet_jax.evaluation.panoptic --gt_json panoptic_val2017.json --gt_folder panoptic_val2017 \
        --pred_json predictions.json --pred_folder predictions --output metrics.json

Categories are those of the ground truth. Cityscapes in this format (cityscapesscripts' createPanopticImgs) works, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from sognet_jax.evaluation.panoptic_files import FileEvaluation, evaluate_files
from sognet_jax.evaluation.panoptic_json import PanopticFileError, PanopticFiles, first_few
from sognet_jax.files import write_whole

GROUPS = ('All', 'Things', 'Stuff')


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1, with the reason on the console, where files are missing or broken."""
    options = _parser().parse_args(arguments)
    files = PanopticFiles(
        options.gt_json,
        options.gt_folder or options.gt_json.with_suffix(''),
        options.pred_json,
        options.pred_folder or options.pred_json.with_suffix(''),
    )
    try:
        evaluation = evaluate_files(files, workers=options.workers)
    except PanopticFileError as error:
        print(error, file=sys.stderr)
        return 1
    metrics = panoptic_file_metrics(evaluation)
    print(panoptic_table(metrics))
    try:
        if options.output:
            write_whole(options.output, json.dumps(metrics, indent=2) + '\n')
    except OSError as error:
        print(f'{options.output}: cannot be written: {error.strerror}', file=sys.stderr)
        return 1
    print(f'\n{evaluation.num_images} images', end=f', {options.output}\n' if options.output else '\n')
    if evaluation.without_truth:
        ignored = evaluation.without_truth
        print(f'ignored {len(ignored)} predictions of images that have no ground truth: {first_few(ignored)}')
    return 0


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


def _workers(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m sognet_jax.evaluation.panoptic', description=__doc__.partition('\n')[0]
    )
    parser.add_argument('--gt_json', type=pathlib.Path, required=True, help='ground truth, COCO panoptic JSON')
    parser.add_argument('--gt_folder', type=pathlib.Path, help='its PNGs; by default as the JSON, without .json')
    parser.add_argument('--pred_json', type=pathlib.Path, required=True, help='predictions, COCO panoptic JSON')
    parser.add_argument('--pred_folder', type=pathlib.Path, help='their PNGs; by default as the JSON, without .json')
    parser.add_argument('--output', type=pathlib.Path, help='JSON file for all numbers')
    parser.add_argument(
        '--workers', type=_workers, default=os.cpu_count() or 1, help='processes; as many as there are cores'
    )
    return parser


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit('interrupted')

r"""Panoptic quality of anybody's predictions in COCO's panoptic format, as the official panopticapi computes it.

    python -m sognet_jax.programs.score_files --gt_json panoptic_val2017.json --gt_folder panoptic_val2017 \
        --pred_json predictions.json --pred_folder predictions --output metrics.json

Categories are those of the ground truth. Cityscapes in this format (cityscapesscripts' createPanopticImgs) works, too.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from sognet_jax.evaluation.panoptic_files.entries import PanopticFiles, first_few
from sognet_jax.evaluation.panoptic_files.scoring import evaluate_files
from sognet_jax.evaluation.panoptic_files.summary import panoptic_file_metrics, panoptic_table
from sognet_jax.files import write_whole
from sognet_jax.problems import InputError


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
    except InputError as error:
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


def _workers(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m sognet_jax.programs.score_files', description=__doc__.partition('\n')[0]
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

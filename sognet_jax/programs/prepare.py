"""Checks and prepares a data set: `python -m sognet_jax.programs.prepare coco --source DIR --data_dir DIR`.

Every image and annotation is checked first; whatever is wrong comes in one report. Then the images are stored with
their overlap relations, as array_record files that `train.py`, `eval.py` and tfds read. An interrupted run goes on
where it was.
"""

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Iterable, Sequence

from absl import logging

from sognet_jax.categories import COCO, OBJECT, CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.data.configured import NAMES, preparation_of
from sognet_jax.data.records.overlap_file import write_overlaps
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.orders.readers import ORDER_FORMATS, annotation_files
from sognet_jax.data.sources.preparation import Preparation, check, prepare
from sognet_jax.files import write_whole
from sognet_jax.json_files import Notes, said
from sognet_jax.problems import InputError, Problem, report

USUAL_SPLITS = {'coco': ('train2017', 'val2017', 'test-dev2017'), 'cityscapes': ('train', 'val', 'test')}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1 where something is wrong with the data."""
    options = _parser().parse_args(arguments)
    logging.set_verbosity(logging.ERROR)  # tfds narrates every step; what fails is raised
    problems: list[Problem] = []
    records: dict[str, Iterable[Record]] = {}
    only_checks = options.check or options.annotations_only
    failed = False
    try:
        categories = _categories(options)
        splits = options.splits or found_splits(options.name, options.source)
    except (ValueError, OSError) as error:
        failed, splits = _report_error(error, problems), []
    for split in splits:
        try:
            wanted = {'relations': not options.without_relations, 'opens_files': not options.annotations_only}
            preparation = preparation_of(options.name, options.source, split, categories, **wanted)
            run = _check if only_checks or failed else _prepare  # with one broken split, no other is stored any more
            records[split] = run(preparation, options, problems)
        except (ValueError, OSError) as error:
            failed = _report_error(error, problems)
    try:
        if options.report:
            write_whole(options.report, f'{report(problems)}\n')
            print(f'{len(problems)} problems: {options.report}', file=sys.stderr)
        if options.overlaps and not failed:
            write_overlaps(records, options.overlaps)
            print(f'overlaps: {options.overlaps}')
    except OSError as error:
        print(f'{error.filename} cannot be written: {error.strerror}', file=sys.stderr)
        failed = True
    except ValueError as error:
        failed = _report_error(error, problems)
    return int(failed or bool(only_checks and problems))


def _report_error(error: Exception, problems: list[Problem]) -> bool:
    problems += error.problems if isinstance(error, InputError) else ()
    print(error, file=sys.stderr)
    return True


def found_splits(name: str, source: pathlib.Path) -> list[str]:
    """The splits that a folder has, of those that are usual for its format.

    Raises:
        ValueError: it has none.
    """
    if name == 'coco_format':
        starts = ('instances_', 'panoptic_', 'image_info_')
        found = ((start, file) for start in starts for file in source.glob(f'annotations/{start}*.json'))
        splits = sorted({file.stem.removeprefix(start) for start, file in found})
    elif name == 'cityscapes':
        splits = [split for split in USUAL_SPLITS[name] if (source / 'leftImg8bit' / split).is_dir()]
    elif name in ORDER_FORMATS:
        splits = list(annotation_files(name, source))
    else:
        splits = [split for split in USUAL_SPLITS[name] if any(source.glob(f'annotations/*_{split}.json'))]
    if not splits:
        raise ValueError(f'{source}: no split found here; see docs/data.md for the layout of {name}, or name --splits')
    return splits


def _categories(options: argparse.Namespace) -> CategorySet:
    """Those of `--categories`, which some formats need or may have; the others have their own, whatever this says."""
    if options.name not in ORDER_FORMATS and (options.name == 'coco_format') != bool(options.categories):
        raise ValueError(f'coco_format needs --categories, and this is {options.name}')
    if options.overlaps and (options.annotations_only or options.without_relations):
        raise ValueError('--overlaps are not found with --annotations_only or --without_relations')
    if options.categories:
        return category_set(options.categories, '--categories')
    return OBJECT if options.name in ORDER_FORMATS else COCO


def _check(preparation: Preparation, options: argparse.Namespace, problems: list[Problem]) -> Iterable[Record]:
    found = check(preparation, workers=options.workers)
    problems += found.problems
    usable = [examined.record for examined in found.images() if examined.record is not None]
    if found.problems:
        print(report(found.problems, limit=20), file=sys.stderr)
    print(f'{preparation.split}: {len(found.problems)} problems in {found.count} images')
    _say(found.notes)
    return usable


def _prepare(preparation: Preparation, options: argparse.Namespace, problems: list[Problem]) -> Iterable[Record]:
    prepared = prepare(
        preparation, options.data_dir, workers=options.workers, leave_out_broken=options.leave_out_broken
    )
    problems += prepared.problems
    source = RecordSource(prepared.folder, preparation.split)
    left_out = f', without {source.left_out} problems' if source.left_out else ''
    left_out += ' that were left out before: --check lists them' if left_out and not prepared.problems else ''
    print(f'{preparation.split}: {len(source)} images in {prepared.folder}{left_out}')
    _say(prepared.notes)
    return source


def _say(notes: Notes) -> None:
    for line in said(notes):
        print(f'  {line}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m sognet_jax.programs.prepare', description=__doc__)
    parser.add_argument('name', choices=NAMES[1:], help='format of the source')
    parser.add_argument('--source', type=pathlib.Path, required=True, help='folder in the official layout')
    parser.add_argument('--data_dir', default='data', help='where prepared data sets go (config field data.dir)')
    parser.add_argument('--splits', nargs='+', help='for example val2017; all that are there')
    parser.add_argument('--categories', help='of the things: JSON file, or a name (config field categories)')
    parser.add_argument('--workers', type=int, help='processes; as many as there are cores')
    parser.add_argument('--check', action='store_true', help='examine everything, store nothing')
    parser.add_argument(
        '--annotations_only', action='store_true', help='as --check, but of the JSON files alone: COCO in minutes'
    )
    parser.add_argument('--leave_out_broken', action='store_true', help='store what has no problem')
    parser.add_argument('--report', help='file for the list of all problems')
    parser.add_argument('--overlaps', help='JSON file for the overlapping pairs of every image')
    parser.add_argument(
        '--without_relations', action='store_true', help='Cityscapes without polygon files (data.relations = False)'
    )
    return parser


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit('interrupted; the same command goes on from here')

"""Checking and storing one split of a source of annotated images, whatever its format."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.data.records import storage
from sognet_jax.data.sources import staging
from sognet_jax.data.sources.staging import DISAGREEMENT, FEWEST, Comparison, Examined, Findings
from sognet_jax.json_files import Notes
from sognet_jax.problems import InputError, Problem

FEW, MANY = 0.1, 0.3
"""Shares of the boxes from which on those that look like another convention, and any others that are not their masks',
are a problem; below, they are slips, or of whole things with masks of what is seen."""

HINT = (
    'Nothing was stored. Mend the files, or prepare the data without what is broken: '
    'python -m sognet_jax.programs.prepare ... --leave_out_broken'
)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How one split becomes a prepared data set."""

    name: str
    copy: str  # of `copy_name`; becomes a folder name
    split: str  # name of the split in the prepared data set
    categories: CategorySet
    description: str
    has_source: bool  # whether the files are still there
    # reads the annotation files; gives one task for each image, what is wrong with the files, and what was taken
    # although it is unusual
    read: Callable[[], tuple[Sequence[Any], list[Problem], Notes]]
    examine: Callable[[Any], Examined]  # checks one task, see `staging`


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared split, with what this run has left out because it was broken or taken although it is unusual."""

    folder: pathlib.Path
    problems: Sequence[Problem] = ()
    notes: Notes = dataclasses.field(default_factory=Notes)


def copy_name(split: str, made_of: Sequence[str], sources: Iterable[pathlib.Path]) -> str:
    """A name that tells apart what was made of other files, with other options, or of files that have changed since: of
    the sources, files and folders with all that is in them, names, sizes and times count.
    """
    state = []
    for file in itertools.chain.from_iterable(map(_files, sources)):
        with contextlib.suppress(OSError):
            found = os.stat(file)
            state.append(f'{file} {found.st_size} {found.st_mtime_ns}')
    return '_'.join(
        [split, *(hashlib.sha256(os.fsencode('\n'.join(part))).hexdigest()[:8] for part in (made_of, sorted(state)))]
    )


def _files(path: pathlib.Path) -> Iterator[str]:
    """A file, or those in a folder and in what links in it lead to."""
    if not path.is_dir():
        yield str(path)
    visited: set[str] = set()
    for folder, below, names in os.walk(path, followlinks=True):
        if os.path.realpath(folder) in visited:  # links can lead in circles
            below.clear()
            continue
        visited.add(os.path.realpath(folder))
        # Programs that show folders, and file systems of networks, leave files there.
        yield from (os.path.join(folder, name) for name in names if name[0] != '.' and name != 'Thumbs.db')


def check(
    preparation: Preparation, *, workers: int | None = None, staging_folder: pathlib.Path | None = None
) -> Findings:
    """Examines everything and stores nothing (but, with a staging folder, what was found so far).

    Raises:
        InputError: an annotation file is missing or no JSON of the right form.
    """
    tasks, problems, notes = preparation.read()
    title = f'{preparation.name} {preparation.split}'
    found = staging.examine_all(tasks, preparation.examine, title=title, workers=workers, staging=staging_folder)
    found.notes.update(notes)
    problems += [] if found.count or problems else [_no_images(preparation)]
    found.problems = problems + _disagreements(found.comparison, preparation.description, found.notes) + found.problems
    return found


def _no_images(preparation: Preparation) -> Problem:
    return Problem('no images', preparation.description, 'there is not one image that can be used', False)


def _disagreements(comparison: Comparison, place: str, notes: Notes) -> list[Problem]:
    """What many of the annotations contradict; a note where it is a few."""
    problems = []
    instances, segments, matched = comparison.instances, comparison.segments, comparison.matched
    if instances and not segments:
        notes['panoptic maps have no things: nothing says which instance covers which'] += 1
    elif max(instances, segments) >= FEWEST and matched < max(instances, segments) / 2:
        text = (
            f'of {instances} instances and {segments} segments of things only {matched} lie where one of the other '
            'and of their class does: one of the two is of other images or another size, or has its runs along the rows'
        )
        problems.append(Problem(DISAGREEMENT, place, text, is_local=False))
    doubts: dict[str, list[Problem]] = collections.defaultdict(list)
    for doubt in comparison.doubts:
        doubts[doubt.kind].append(doubt)
    for kind, members in doubts.items():
        if len(members) >= comparison.boxes * (MANY if members[0].is_local else FEW):
            problems += members
        else:
            notes[f"{kind}: their masks' boxes are taken, first in {members[0]}"] += len(members)
    return problems


def prepare(
    preparation: Preparation,
    data_dir: str | pathlib.Path,
    *,
    workers: int | None = None,
    leave_out_broken: bool = False,
) -> Prepared:
    """Stores a split with its overlap relations unless that has been done already; with `leave_out_broken`, what has no
    problem, where that is possible. After an interruption, started again, it goes on where it was.

    Raises:
        InputError: the annotations or images are broken; nothing is stored.
    """
    folder = storage.prepared_folder(preparation.name, data_dir, preparation.copy)
    with storage.alone(folder) as is_there:
        if is_there:
            return Prepared(folder)
        same_source = f'{preparation.copy.rpartition("_")[0]}_*/{folder.name}'
        earlier = sorted(folder.parent.parent.glob(same_source), key=lambda path: path.stat().st_mtime)
        if earlier and not preparation.has_source:
            earlier.sort(key=lambda path: -storage.RecordSource(path, preparation.split).left_out)  # whole ones last
            tqdm.write(f'{earlier[-1]} is used: its source is not there any more', file=sys.stderr)
            return Prepared(earlier[-1])
        if earlier:
            tqdm.write(f'{earlier[-1]} is older than its source, which is prepared again', file=sys.stderr)
        return _prepare(preparation, folder, workers, leave_out_broken)


def _prepare(preparation: Preparation, folder: pathlib.Path, workers: int | None, leave_out_broken: bool) -> Prepared:
    # What another version of the program has found may be of another form.
    version = copy_name(preparation.copy, [], pathlib.Path(__file__).parents[2].rglob('*.py'))
    staging_folder = folder.parent.with_name(f'{version}.examined')
    found = check(preparation, workers=workers, staging_folder=staging_folder)
    blocking = [problem for problem in found.problems if not (leave_out_broken and problem.is_local)]
    if blocking:
        raise InputError(blocking, HINT if all(problem.is_local for problem in blocking) else 'Nothing was stored.')
    if not any(examined.record for examined in found.images()):
        raise InputError([_no_images(preparation)])
    title = f'{preparation.name} {preparation.split}'
    storage.write_records(
        folder,
        splits={preparation.split: found.records(title)},
        categories=preparation.categories,
        description=preparation.description,
        left_out=len(found.problems),
    )
    for staged in folder.parent.parent.glob(f'{preparation.copy}*.examined'):
        shutil.rmtree(staged, ignore_errors=True)
    return Prepared(folder, found.problems, found.notes)

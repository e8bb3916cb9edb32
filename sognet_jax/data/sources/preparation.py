"""Checking and storing one split of a source of annotated images, whatever its format."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from sognet_jax.categories import CategorySet
from sognet_jax.data.records import storage
from sognet_jax.data.sources import staging
from sognet_jax.data.sources.problems import AnnotationError, Problem
from sognet_jax.data.sources.staging import Examined, Findings

HINT = (
    'Nothing was stored. Mend the files, or prepare the data without what is broken: '
    'python -m sognet_jax.programs.prepare ... --leave_out_broken'
)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How one split becomes a prepared data set.

    Attributes:
        builder: the tfds builder.
        copy: tells differently made copies apart; becomes a folder name.
        split: name of the split in the prepared data set.
        categories: the classes.
        description: what the data are.
        read: reads the annotation files; gives one task for each image, and what is wrong with the files.
        examine: checks one task, see `staging`.
    """

    builder: type[storage.RecordBuilder]
    copy: str
    split: str
    categories: CategorySet
    description: str
    read: Callable[[], tuple[Sequence[Any], list[Problem]]]
    examine: Callable[[Any], Examined]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared split.

    Attributes:
        folder: where it is.
        problems, too_small: what has been left out of it by this run: what was broken, and how many instances that
            cover no pixel. Nothing where the split had been prepared before.
    """

    folder: pathlib.Path
    problems: Sequence[Problem] = ()
    too_small: int = 0


def check(
    preparation: Preparation, *, workers: int | None = None, staging_folder: pathlib.Path | None = None
) -> Findings:
    """Examines everything and stores nothing (but, with a staging folder, what was found so far).

    Raises:
        AnnotationError: an annotation file is missing or no JSON of the right form.
    """
    tasks, problems = preparation.read()
    title = f'{preparation.builder.name} {preparation.split}'
    found = staging.examine_all(tasks, preparation.examine, title=title, workers=workers, staging=staging_folder)
    return dataclasses.replace(found, problems=problems + found.problems)


def prepare(
    preparation: Preparation,
    data_dir: str | pathlib.Path,
    *,
    workers: int | None = None,
    leave_out_broken: bool = False,
) -> Prepared:
    """Stores a split with its overlap relations unless that has been done already.

    After an interruption, started again, it goes on where it was.

    Args:
        preparation: of the split.
        data_dir: where prepared data sets live.
        workers: processes, see `staging.examine_all`.
        leave_out_broken: store what has no problem, where that is possible.

    Raises:
        AnnotationError: the annotations or images are broken; nothing is stored.
    """
    folder = storage.prepared_folder(preparation.builder, data_dir, preparation.copy)
    with storage.alone(folder) as is_there:
        if is_there:
            return Prepared(folder)
        return _prepare(preparation, folder, data_dir, workers, leave_out_broken)


def _prepare(
    preparation: Preparation, folder: pathlib.Path, data_dir: str | pathlib.Path, workers: int | None,
    leave_out_broken: bool,
) -> Prepared:  # fmt: skip
    staging_folder = folder.parent.with_name(f'{preparation.copy}.staging')
    found = check(preparation, workers=workers, staging_folder=staging_folder)
    blocking = [problem for problem in found.problems if not (leave_out_broken and problem.is_local)]
    if blocking:
        raise AnnotationError(blocking, HINT)
    if not any(examined.record for examined in found.images()):
        raise AnnotationError(
            [Problem('no images', preparation.description, 'there is not one image that can be used')]
        )
    title = f'{preparation.builder.name} {preparation.split}'
    storage.write_records(
        preparation.builder,
        data_dir,
        preparation.copy,
        make_splits=lambda: {preparation.split: found.records(title)},
        categories=preparation.categories,
        description=preparation.description,
    )
    staging.discard(staging_folder)
    return Prepared(folder, found.problems, found.too_small)

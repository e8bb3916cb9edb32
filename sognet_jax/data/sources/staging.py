"""Examining the images of a source in several processes, in an order that survives interruptions.

What is found out about an image (masks, overlaps, matches: kilobytes) is kept in small files while a source is
examined. Started again, the work goes on behind them; images with a fault are examined anew. The images themselves are
only copied, at the end, when all is known to be well.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from tqdm import tqdm

from sognet_jax.data.records.schema import Record
from sognet_jax.files import write_whole
from sognet_jax.json_files import Notes
from sognet_jax.problems import Problem
from sognet_jax.processes import in_order

TOO_SMALL = 'instances cover no pixel, and are left out'
"""A note on those whose box is no wider or no higher than a pixel, and on thin outlines."""

DISAGREEMENT = 'masks and panoptic maps disagree'

FEWEST = 4
"""Instances or segments from which on that is asked."""

CHUNK = 32
"""Images that a process examines at a time, and whose findings lie in one file."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far what two fields or files say of the same instances agrees: one that differs may, many may not.

    So many instances and segments of things stand beside each other, and so many of either, `matched`, have the other
    where they are; so many instances have boxes of their own, of which the doubts are not their masks'.
    """

    instances: int = 0
    segments: int = 0
    matched: int = 0
    boxes: int = 0
    doubts: tuple[Problem, ...] = ()

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Examined:
    """What is known of one image: all that is wrong with it, and its record, with an empty `image_bytes` and without
    the instances that have a problem; None where the image cannot be used.
    """

    record: Record | None
    image_file: pathlib.Path
    problems: tuple[Problem, ...] = ()
    notes: Notes = dataclasses.field(default_factory=Notes)
    comparison: Comparison = Comparison()


@dataclasses.dataclass
class Findings:
    """What is known of all images of a split, in order; chunks that lie in files are read when they are needed."""

    count: int
    chunks: list[list[Examined] | pathlib.Path] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    notes: Notes = dataclasses.field(default_factory=Notes)
    comparison: Comparison = Comparison()

    def images(self) -> Iterator[Examined]:
        """Every image, in order."""
        for chunk in self.chunks:
            yield from pickle.loads(chunk.read_bytes()) if isinstance(chunk, pathlib.Path) else chunk

    def records(self, title: str) -> Iterator[Record]:
        """The complete records of the images that can be used, with a progress bar."""
        for examined in tqdm(self.images(), total=self.count, desc=f'store {title}', unit='image'):
            if examined.record is not None:
                yield dataclasses.replace(examined.record, image_bytes=examined.image_file.read_bytes())


def examine_all(
    tasks: Sequence[Any],
    examine: Callable[[Any], Examined],
    *,
    title: str,
    workers: int | None = None,
    staging: pathlib.Path | None = None,
) -> Findings:
    """Examines every image of a split.

    Args:
        tasks: one for each image: all that `examine` needs, small enough to be sent to a process.
        examine: a function of a module.
        workers: processes; 0 or 1 do it in this one. None: as many as there are cores.
        staging: folder for the findings so far; without one, an interruption loses them.
    """
    chunks = [
        (list(tasks[start : start + CHUNK]), None if staging is None else staging / f'{start:08d}.pickle')
        for start in range(0, len(tasks), CHUNK)
    ]
    workers = min(os.cpu_count() or 1 if workers is None else workers, len(chunks))
    all_found = Findings(len(tasks))
    with (
        contextlib.closing(in_order(functools.partial(_examine_chunk, examine), chunks, workers)) as results,
        tqdm(total=len(tasks), desc=f'examine {title}', unit='image') as progress,
    ):
        for (_, file), found in zip(chunks, results, strict=True):
            problems = [problem for examined in found for problem in examined.problems]
            all_found.problems += problems
            all_found.chunks.append(found if file is None or problems else file)
            for examined in found:
                all_found.notes.update(examined.notes)
                all_found.comparison += examined.comparison
            progress.update(len(found))
    return all_found


def _examine_chunk(examine: Callable[[Any], Examined], chunk: tuple[list[Any], pathlib.Path | None]) -> list[Examined]:
    """What an earlier run has found, or what is found now, which is kept but for that with a fault."""
    tasks, file = chunk
    if file is None:
        return [examine(task) for task in tasks]
    with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):  # not there, or not whole
        return pickle.loads(file.read_bytes())
    found = [examine(task) for task in tasks]
    if not any(examined.problems for examined in found):
        write_whole(file, pickle.dumps(found))
    return found

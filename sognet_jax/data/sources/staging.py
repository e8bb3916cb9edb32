"""Examining the images of a source in several processes, in an order that survives interruptions.

What is found out about an image (masks, overlaps, matches: kilobytes) is kept in small files while a source is
examined. Started again, the work goes on behind them; images with a fault are examined anew. The images themselves are
only copied, at the end, when all is known to be well.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from sognet_jax.data.records.schema import Record
from sognet_jax.files import write_whole
from sognet_jax.json_files import Notes
from sognet_jax.problems import Problem

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

    Attributes:
        instances, segments: how many instances and how many segments of things stand beside each other.
        matched: how many of either have the other where they are.
        boxes: how many instances have a box of their own.
        doubts: boxes that are not their masks'.
    """

    instances: int = 0
    segments: int = 0
    matched: int = 0
    boxes: int = 0
    doubts: tuple[Problem, ...] = ()

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Examined:
    """What is known of one image.

    Attributes:
        record: with an empty `image_bytes`; None where the image cannot be used.
        image_file: where the image is.
        problems: everything that is wrong with it. The record is without the instances that have a problem.
        notes: what was taken although it is unusual.
        comparison: what its annotations say of each other.
    """

    record: Record | None
    image_file: pathlib.Path
    problems: tuple[Problem, ...] = ()
    notes: Notes = dataclasses.field(default_factory=Notes)
    comparison: Comparison = Comparison()


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is known of all images of a split.

    Attributes:
        count: how many images there are.
        chunks: what is known of them, in order; those of a file are read when they are needed.
        problems: everything that is wrong.
        notes: what was taken although it is unusual.
        comparison: of all images.
    """

    count: int
    chunks: list[list[Examined] | pathlib.Path]
    problems: list[Problem]
    notes: Notes
    comparison: Comparison = Comparison()

    def images(self) -> Iterator[Examined]:
        """Every image, in order."""
        for chunk in self.chunks:
            yield from _load(chunk) if isinstance(chunk, pathlib.Path) else chunk

    def records(self, title: str) -> Iterator[Record]:
        """The complete records of the images that can be used, with a progress bar."""
        with tqdm(total=self.count, desc=f'store {title}', unit='image') as progress:
            for examined in self.images():
                progress.update()
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
        title: for the progress bar.
        workers: processes; 0 or 1 do it in this one. None: as many as there are cores.
        staging: folder for the findings so far; without one, an interruption loses them.

    Returns:
        What was found.
    """
    chunks = {start: list(tasks[start : start + CHUNK]) for start in range(0, len(tasks), CHUNK)}
    files = {start: staging / f'{start:08d}.pickle' for start in chunks} if staging is not None else {}
    if staging is not None:
        staging.mkdir(parents=True, exist_ok=True)
    tally = Findings(len(tasks), [], [], Notes())
    done: dict[int, list[Examined] | pathlib.Path] = {}
    for start, file in files.items():
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):  # not there, or not whole
            tally = _add(tally, _load(file))
            done[start] = file
    problems: dict[int, list[Problem]] = {}
    todo = {start: chunk for start, chunk in chunks.items() if start not in done}
    workers = min(os.cpu_count() or 1 if workers is None else workers, len(todo))
    finished = len(tasks) - sum(map(len, todo.values()))
    with tqdm(total=len(tasks), initial=finished, desc=f'examine {title}', unit='image') as progress:
        for start, found in _results(todo, examine, workers):
            done[start] = found
            problems[start] = [problem for examined in found for problem in examined.problems]
            tally = _add(tally, found)
            # What has a fault is examined again after the files have been mended.
            if start in files and not problems[start]:
                write_whole(files[start], pickle.dumps(found))
                done[start] = files[start]
            progress.update(len(found))
    in_order = [problem for start in sorted(problems) for problem in problems[start]]
    return dataclasses.replace(tally, chunks=[done[start] for start in chunks], problems=in_order)


def discard(staging: pathlib.Path) -> None:
    """Removes the findings of a split that has been stored."""
    shutil.rmtree(staging, ignore_errors=True)


def _results(
    chunks: dict[int, list[Any]], examine: Callable[[Any], Examined], workers: int
) -> Iterator[tuple[int, list[Examined]]]:
    """Findings as they come. Few chunks are on their way at any time: their tasks are copies of annotations."""
    if workers <= 1:
        for start, chunk in chunks.items():
            yield start, _examine_chunk(examine, chunk)
        return
    context = multiprocessing.get_context('spawn')  # a fork of a process with threads can hang
    waiting = iter(chunks.items())
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        running: dict[concurrent.futures.Future, int] = {}
        try:
            while True:
                while len(running) < 2 * workers and (item := next(waiting, None)) is not None:
                    running[pool.submit(_examine_chunk, examine, item[1])] = item[0]
                if not running:
                    return
                finished, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _add(tally: Findings, found: list[Examined]) -> Findings:
    """Notes and comparisons with those of some more images."""
    for examined in found:
        tally.notes.update(examined.notes)
    comparison = sum((examined.comparison for examined in found), tally.comparison)
    return dataclasses.replace(tally, comparison=comparison)


def _examine_chunk(examine: Callable[[Any], Examined], tasks: list[Any]) -> list[Examined]:
    return [examine(task) for task in tasks]


def _load(path: pathlib.Path) -> list[Examined]:
    return pickle.loads(path.read_bytes())

"""Panoptic quality of predictions in files: COCO's panoptic JSON beside a folder of PNGs, from any program.

result = evaluate_files(PanopticFiles(gt_json, gt_folder, pred_json, pred_folder), workers=2)
result.counts.summary()['PQ']

Pairs are listed and checked first (`entries`), then matched (`match_pair`), in as many processes as one likes.
The numbers do not depend on how many.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from tqdm import tqdm

from sognet_jax.evaluation.panoptic_files.entries import FileCategory, ImageId, PanopticFiles, PanopticPair, read_pairs
from sognet_jax.evaluation.panoptic_quality import WRONG_AREA, Matching, PanopticCounts, match_segments
from sognet_jax.files import read_bytes
from sognet_jax.id_maps import color_ids, decode_colors
from sognet_jax.problems import Fault, InputError, Problem, raise_if_any
from sognet_jax.processes import in_order

CHUNK = 16
"""Pairs that a process is given at a time."""

KEPT_BYTES = 2**25 - 2**16
"""Just below 32 MiB, the largest block that glibc learns from."""


@dataclasses.dataclass(frozen=True)
class FileEvaluation:
    """The result for all images."""

    categories: tuple[FileCategory, ...]  # of the ground truth, in its order, which the counts have, too
    counts: PanopticCounts
    num_images: int
    without_truth: list[ImageId]  # predicted images that the ground truth does not have; they were ignored


def evaluate_files(files: PanopticFiles, *, workers: int = 0) -> FileEvaluation:
    """Counts the matches of all images in so many processes, with a progress bar if it takes longer than a second.

    Raises:
        InputError: something is missing, broken or contradicts something else. Faults of the JSON files come
            together, before any PNG is read; those of all PNGs come together, too.
    """
    categories, pairs, without_truth = read_pairs(files)
    _keep_memory()
    counts = PanopticCounts.zeros(len(categories))
    problems: list[Problem] = []
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    count = functools.partial(_count_pairs, num_categories=len(categories))
    with (
        contextlib.closing(in_order(count, chunks, min(workers, len(chunks)), _prepare_process)) as results,
        tqdm(total=len(pairs), desc='panoptic quality', unit='image', delay=1) as progress,
    ):
        for chunk, (found, found_problems) in zip(chunks, results, strict=True):
            counts += found
            problems += found_problems
            progress.update(len(chunk))
    raise_if_any(problems)
    return FileEvaluation(categories, counts, len(pairs), without_truth)


def match_pair(pair: PanopticPair) -> Matching:
    """Reads the PNGs of one image and matches its segments.

    Raises:
        InputError: with everything that is wrong with the two.
    """
    problems: list[Problem] = []
    truth, prediction = (_ids_or_none(png, pair, problems) for png in (pair.truth_png, pair.predicted_png))
    if truth is None or prediction is None:
        raise InputError(problems)
    place = f'{pair.predicted_png} (image {pair.image_id})'
    if truth.shape != prediction.shape:
        text = f'{_size(prediction)}, but {pair.truth_png} is {_size(truth)}'
        raise InputError([Problem('PNG of another size', place, text)])
    try:
        return match_segments(truth, pair.truth_segments, prediction, pair.predicted_segments, pair.truth_areas)
    except Fault as error:
        if error.kind == WRONG_AREA:
            place = f'{pair.truth_png} (image {pair.image_id})'
        raise InputError([Problem(error.kind, place, str(error))]) from error


def read_ids(path: pathlib.Path) -> np.ndarray:
    """`[h, w]` int32 segment ids of a PNG, id = R + 256 G + 65536 B.

    Raises:
        ValueError: it cannot be read, or is no whole PNG of three channels with 8 bits.
    """
    return color_ids(read_colors(path))


def read_colors(path: pathlib.Path) -> np.ndarray:
    """`[h, w, 3]` uint8, R, G, B of a PNG; raises as `read_ids`."""
    return decode_colors(read_bytes(path))


def _count_pairs(pairs: Sequence[PanopticPair], num_categories: int) -> tuple[PanopticCounts, list[Problem]]:
    counts = PanopticCounts.zeros(num_categories)
    problems: list[Problem] = []
    for pair in pairs:
        try:
            counts += match_pair(pair).counts(num_categories)
        except InputError as error:
            problems += error.problems
    return counts, problems


def _prepare_process() -> None:
    """For a process beside others."""
    cv2.setNumThreads(1)
    _keep_memory()


def _keep_memory() -> None:
    """Lets glibc keep freed memory for the next image; fresh pages can cost more than decoding.

    What it gives back to the system follows the largest block that was freed (mallopt(3), M_MMAP_THRESHOLD). This one
    is never touched and so takes no memory itself.
    """
    np.empty(KEPT_BYTES, np.uint8)


def _ids_or_none(path: pathlib.Path, pair: PanopticPair, problems: list[Problem]) -> np.ndarray | None:
    try:
        return read_ids(path)
    except ValueError as error:
        problems.append(Problem('broken or missing PNG', f'{path} (image {pair.image_id})', str(error)))
    return None


def _size(id_map: np.ndarray) -> str:
    return f'{id_map.shape[1]} x {id_map.shape[0]} pixels'

"""Masks and boxes of COCO annotations, judged before pycocotools sees them: its C code checks nothing."""

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.data.records.relations import RLE, rle_boxes
from sognet_jax.json_files import Notes, decode_entry
from sognet_jax.json_schemas import Box, RunLengths, Segmentation
from sognet_jax.problems import Fault

TOLERANCE = 0.1
"""Share of the image's side by which an outline or a box may exceed it: it is cut there."""

MOST_POLYGONS = 5_000
"""Of an instance: pycocotools merges them one by one."""

LONGEST_OUTLINE = 2_000_000
"""Pixels: pycocotools walks along an outline in fifths of them, and needs 16 bytes for each."""

AGREEMENT = (3.0, 0.1)
"""Pixels, and share of the mask's side: by the larger of both, an edge of a box may lie elsewhere than its mask's."""

DISAGREE = 'bbox and mask disagree'
"""The kind of boxes that look like nothing in particular."""

CONTINUES, SIGN, FIRST, LAST = 32, 16, 48, 111
"""Of the text of compressed runs: each byte, less 48, holds five bits of a number, low ones first."""


@dataclasses.dataclass(frozen=True)
class Mask:
    """The mask of an instance, whether it came as polygons, and the `[4]` half-open box, its extent, around its outline
    before that was cut into pixels; without one, around its pixels.
    """

    rle: RLE
    extent: np.ndarray
    is_outline: bool


def read_mask(segmentation: msgspec.Raw, size: tuple[int, int], notes: Notes) -> Mask:
    """Polygons, uncompressed or compressed run lengths -> a mask of this height and width, by the COCO rasteriser.

    Raises:
        Fault: it is none of these, or not of this image.
    """
    try:
        found = decode_entry(segmentation, Segmentation, notes, 'segmentation')
    except ValueError as error:
        if bytes(segmentation).split() in ([b'[]'], [b'[', b']']):
            raise Fault(
                'no mask', 'segmentation is [], expected polygons or run lengths: boxes are not enough'
            ) from error
        text = f'{error}: polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or run lengths'
        raise Fault('broken segmentation', text) from error
    if isinstance(found, RunLengths):
        rle = read_runs(found, size)
        return Mask(rle, rle_boxes([rle])[0], is_outline=False)
    extent = _outline_extent(found, size)
    return Mask(coco_mask.merge(coco_mask.frPyObjects(found, *size)), extent, is_outline=True)


def read_runs(runs: RunLengths, size: tuple[int, int]) -> RLE:
    """Run lengths, compressed or not, as pycocotools has them.

    Raises:
        Fault: they are not of an image of this height and width.
    """
    if runs.size != size:
        raise Fault('mask of another size', f'segmentation.size is {list(runs.size)}, the image {list(size)}')
    counts = _decode_counts(runs.counts) if isinstance(runs.counts, str) else runs.counts
    total = sum(counts)
    if total != size[0] * size[1]:
        text = f'segmentation.counts are of {total} pixels, expected {size[0]} x {size[1]} = {size[0] * size[1]}'
        raise Fault('mask of another size', text)
    return coco_mask.frPyObjects({'size': list(size), 'counts': _without_empty_runs(np.array(counts))}, *size)


def agreed_box(box: Box | None, mask: Mask, size: tuple[int, int]) -> tuple[np.ndarray, Fault | None]:
    """The box (x, y, width, height) of an annotation where it is its mask's, as annotators draw both; else, or without
    one, that of the mask, which has a pixel at least.

    Returns:
        `[4]` float32 half-open x1, y1, x2, y2, clipped to the image; and in what the annotation's is another one.
    """
    pixels = rle_boxes([mask.rle])[0]
    if box is None:
        return pixels, None
    corners, limits = _corners(box), np.array([size[1], size[0]] * 2)
    clipped = np.clip(corners, 0, limits)
    is_near = np.all(np.abs(corners - clipped) <= TOLERANCE * limits + 1)
    if is_near and (_agree(clipped, mask.extent) or _agree(clipped, pixels)):
        return clipped.astype(np.float32) if min(box[2:]) > 0 else pixels, None
    stated = [round(value, 2) for value in box]
    x1, y1, x2, y2 = (round(float(edge), 1) for edge in pixels)
    text = f'bbox is {stated}, its mask is in [{x1}, {y1}, {x2 - x1}, {y2 - y1}] (x, y, width, height)'
    if convention := _convention(box, mask, size):
        return pixels, Fault(f'bbox looks like {convention}', f'{text}; it looks like {convention}')
    return pixels, Fault('bbox without an area' if min(box[2:]) <= 0 else DISAGREE, text)


def is_normalised(mask: Mask) -> bool:
    """Whether an outline looks as if its coordinates were shares of the image's sides."""
    return mask.is_outline and float(mask.extent.max()) <= 1 and bool(np.any(mask.extent % 1))


def _outline_extent(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """`[4]` x1, y1, x2, y2 of all points, clipped; nothing but outlines near the image come through."""
    limits = np.array([size[1], size[0]], np.float64)
    if len(polygons) > MOST_POLYGONS:
        raise Fault('broken segmentation', f'segmentation has {len(polygons)} polygons, at most {MOST_POLYGONS}')
    ends, length = [], 0.0
    for number, polygon in enumerate(polygons):
        if len(polygon) % 2:
            raise Fault('broken segmentation', f'segmentation[{number}] has {len(polygon)} numbers, expected x, y')
        points = np.array(polygon).reshape(-1, 2)
        ends += [points.min(axis=0), points.max(axis=0)]
        if np.any(points < -TOLERANCE * limits - 1) or np.any(points > (1 + TOLERANCE) * limits + 1):
            text = (
                f'segmentation[{number}] reaches from {ends[-2].tolist()} to {ends[-1].tolist()} (x, y), outside the '
                f'image of {size[0]} x {size[1]} (height x width)'
            )
            raise Fault('outline outside the image', text)
        length += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    if length > LONGEST_OUTLINE:
        raise Fault('broken segmentation', f'its outline is {length:.3g} pixels long')
    return np.clip(np.concatenate([np.min(ends, axis=0), np.max(ends, axis=0)]), 0, np.tile(limits, 2))


def _decode_counts(text: str) -> list[int]:
    """The runs that COCO's compressed text says, or an error: what does not come from its encoder is found here."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    if np.any((codes < FIRST) | (codes > LAST)):
        raise Fault('broken segmentation', f'segmentation.counts is {text[:20]!r}..., no compressed run lengths')
    codes -= FIRST
    last = np.flatnonzero(codes < CONTINUES)
    starts = np.concatenate([[0], last[:-1] + 1])[: len(last)]
    lengths = last - starts + 1
    if not len(codes) or last[-1:].tolist() != [len(codes) - 1] or lengths.max() > 7:
        raise Fault('broken segmentation', 'segmentation.counts, compressed run lengths, are cut off')
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & (CONTINUES - 1)) << (5 * places), starts)
    runs -= np.where(codes[last] & SIGN, 1 << (5 * lengths), 0)
    # From the fourth on, each says by how much it differs from the one before the last.
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    if np.any(runs < 0):
        raise Fault('broken segmentation', 'segmentation.counts has a run of less than no pixel')
    return runs.tolist()


def _without_empty_runs(counts: np.ndarray) -> list[int]:
    """The same pixels in runs of one or more, but for the first: pycocotools stops comparing masks at an empty one."""
    there = np.flatnonzero(counts)
    is_mask = there % 2
    starts = np.flatnonzero(np.diff(is_mask, prepend=-1))
    return [0] * int(is_mask[0]) + np.add.reduceat(counts[there], starts).tolist()


def _convention(box: Box, mask: Mask, size: tuple[int, int]) -> str:
    """What a box that is not its mask's may mean, in words."""
    for scale, unit in ((np.ones(4), ''), (np.array([size[1], size[0]] * 2), ', shares of the sides, 0..1')):
        # Where y comes first, the sides change places before they scale anything.
        (x, y, width, height), (down, right, high, wide) = np.array(box) * scale, np.array(box) * scale[::-1]
        meanings = {
            '[x, y, width, height]': [x, y, x + width, y + height],
            '[x1, y1, x2, y2]': [x, y, width, height],
            '[centre x, centre y, width, height]': [x - width / 2, y - height / 2, x + width / 2, y + height / 2],
            '[y, x, height, width]': [right, down, right + wide, down + high],
            '[y1, x1, y2, x2]': [right, down, wide, high],
        }
        for words, corners in meanings.items():
            if _agree(np.array(corners), mask.extent):
                return f'{words}{unit}'
    if not mask.is_outline:
        pixels = coco_mask.decode(mask.rle)
        turned = coco_mask.encode(np.asfortranarray(pixels.ravel(order='F').reshape(size)))
        if _agree(_corners(box), rle_boxes([turned])[0]):
            return 'the box of runs along the rows (COCO counts along the columns)'
    factors = _corners(box)[2:] / np.maximum(mask.extent[2:], 1)
    if factors.min() > 0 and factors.max() < 1.03 * factors.min() and _agree(_corners(box) / factors[0], mask.extent):
        return f'a picture {factors[0]:.2g} times as large'
    return ''


def _corners(box: Sequence[float]) -> np.ndarray:
    return np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])


def _agree(corners: np.ndarray, extent: np.ndarray) -> bool:
    sides = np.tile(extent[2:] - extent[:2], 2)
    return bool(np.all(np.abs(corners - extent) <= np.maximum(AGREEMENT[0], AGREEMENT[1] * sides)))

"""Which instances of a data set overlap, and which lies in front, as a JSON file that other programs can read."""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sognet_jax.data.records.relations import rle_areas
from sognet_jax.data.records.schema import NO_SEGMENT, Record
from sognet_jax.files import write_whole

STATES = ('one_sided', 'split', 'neither', 'one_absent', 'no_panoptic')
"""What the panoptic map says of an intersection: it gives pixels to one of the two instances, to both, or to neither;
one of the two has no segment; the image has no panoptic map."""


def pair_states(record: Record) -> list[str]:
    """The state, one of `STATES`, of each pair of a record."""
    pairs, segments = record.pairs, record.instances.segment
    absent = (segments[pairs.first] == NO_SEGMENT).astype(int) + (segments[pairs.second] == NO_SEGMENT)
    sides = (pairs.first_pixels > 0).astype(int) + (pairs.second_pixels > 0)
    by_sides = np.array(['neither', 'one_sided', 'split'])[sides]
    states = np.where(absent == 1, 'one_absent', by_sides)
    return ['no_panoptic'] * len(pairs.first) if not record.has_panoptic else states.tolist()


def overlap_entry(record: Record) -> dict[str, Any]:
    """The overlaps of one image.

    Returns:
        `n_instances` without crowd, `n_matched` of them with a panoptic segment, and `pairs`, one for each with R = 1
        (Eq. 11): `ann_ids`, the `intersection` in pixels, its `ratio` to the smaller mask, `panoptic_pixels` of the
        intersection that belong to either (null without a panoptic map), the `state` (see `STATES`), and `top`, the id
        of the instance in front (R*; null where it is not known).
    """
    instances, pairs = record.instances, record.pairs
    real = ~instances.crowd
    areas = rle_areas(instances.rles)
    entries = []
    for row, state in enumerate(pair_states(record)):
        ends = [pairs.first[row], pairs.second[row]]
        ids = instances.id[ends].tolist()
        pixels = dict(zip(ids, [int(pairs.first_pixels[row]), int(pairs.second_pixels[row])], strict=True))
        covered, intersection = pairs.covered[row], int(pairs.intersection[row])
        entry = {
            'ann_ids': sorted(ids),
            'intersection': intersection,
            'ratio': round(intersection / int(min(areas[ends])), 4),
            'panoptic_pixels': [pixels[one] for one in sorted(ids)] if record.has_panoptic else None,
            'state': state,
            'top': None if covered < 0 else ids[1 - covered],
        }
        entries.append(entry)
    matched = np.count_nonzero(instances.segment[real] != NO_SEGMENT)
    return {
        'n_instances': int(np.count_nonzero(real)),
        'n_matched': int(matched),
        'pairs': sorted(entries, key=lambda entry: entry['ann_ids']),
    }


def write_overlaps(splits: Mapping[str, Iterable[Record]], path: str | pathlib.Path) -> None:
    """Writes the overlaps of every image with instance annotations.

    The keys of the file are the names of images in their folder, without suffix; with it, and with the split in front,
    where an earlier image is called the same.
    """
    entries: dict[str, dict[str, Any]] = {}
    for split, records in splits.items():
        for record in (record for record in records if record.has_relations):
            name = record.file_name
            names = (str(pathlib.PurePath(name).with_suffix('')), name, f'{split}/{name}')
            entries[next(key for key in names if key not in entries)] = overlap_entry(record)
    write_whole(path, json.dumps(entries))

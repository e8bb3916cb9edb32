"""How one annotated image is stored: the same tfds features for every data set.

Everything is kept at the image's own resolution; `transforms` makes the static arrays of training from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from sognet_jax.data.records.relations import RLE

NO_SEGMENT = 0
"""Segment id of unlabelled pixels in a panoptic map, and of instances that have no segment."""


def features() -> tfds.features.FeaturesDict:
    """The features of every builder of this package."""
    return tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(shape=(None, None, 3)),
            'image_id': np.int64,
            'file_name': tfds.features.Text(),
            'size': tfds.features.Tensor(shape=(2,), dtype=np.int32),
            'panoptic': tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format='png'),
            'has_instances': np.bool_,
            'has_panoptic': np.bool_,
            'has_relations': np.bool_,
            'segments': tfds.features.Sequence({'id': np.int64, 'category': np.int32, 'crowd': np.bool_}),
            'instances': tfds.features.Sequence(
                {
                    'id': np.int64,
                    'category': np.int32,
                    'crowd': np.bool_,
                    'box': tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    'counts': tfds.features.Text(),
                    'segment': np.int64,
                    'box_segment': np.int64,
                }
            ),
            'pairs': tfds.features.Sequence(
                {
                    'first': np.int32,
                    'second': np.int32,
                    'covered': np.int8,
                    'truly_covered': np.int8,
                    'intersection': np.int32,
                    'first_pixels': np.int32,
                    'second_pixels': np.int32,
                }
            ),
        }
    )


@dataclasses.dataclass(frozen=True)
class Segments:
    """Panoptic segments: id in the map, semantic train id, crowd. `[s]` each."""

    id: np.ndarray
    category: np.ndarray
    crowd: np.ndarray


@dataclasses.dataclass(frozen=True)
class InstanceAnnotations:
    """Instance annotations: `[n]` each, boxes `[n, 4]` half-open in pixels of the original image.

    `category` is the thing class 0..T-1; `segment` the id of the instance's panoptic segment by category and mask, one
    to one, or 0 (`relations.match_segments`); `box_segment` the same by the published code's rule
    (`relations.match_segments_by_box`).
    """

    id: np.ndarray
    category: np.ndarray
    crowd: np.ndarray
    box: np.ndarray
    rles: list[RLE]
    segment: np.ndarray
    box_segment: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs with R = 1 (Eq. 11): indices into the instances, `[p]` each.

    `covered` is R*, 0: first is covered by second, 1: second is covered by first, -1: undecided. `truly_covered` is the
    same for the order that a scene was drawn in, -1 where nobody knows. `intersection` counts the pixels that the two
    masks share; `first_pixels` and `second_pixels` those of them that the panoptic map gives to either.
    """

    first: np.ndarray
    second: np.ndarray
    covered: np.ndarray
    truly_covered: np.ndarray
    intersection: np.ndarray
    first_pixels: np.ndarray
    second_pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Record:
    """One stored image with its annotations; image and panoptic map stay encoded until they are asked for.

    Attributes:
        image_bytes: the image file.
        image_id: its number in the data set.
        file_name: its name there, with folders below that of the split, if any.
        size: its height and width.
        panoptic_bytes: a PNG of one channel, `[h, w]`: 0 where a pixel is unlabelled, k where it belongs to row k - 1
            of `segments`. One pixel of 0 where the image has no panoptic annotation.
        has_instances, has_panoptic: which annotations the image has (without any object in it, they are empty).
        has_relations: whether it is known which instances overlap.
        segments, instances, pairs: the annotations.
    """

    image_bytes: bytes
    image_id: int
    file_name: str
    size: tuple[int, int]
    panoptic_bytes: bytes
    has_instances: bool
    has_panoptic: bool
    has_relations: bool
    segments: Segments
    instances: InstanceAnnotations
    pairs: Pairs

    def image(self) -> np.ndarray:
        """`[h, w, 3]` uint8 RGB."""
        return cv2.cvtColor(_decode(self.image_bytes, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def segment_indices(self) -> np.ndarray:
        """`[h, w]` uint8 or uint16: 0 unlabelled, k row k - 1 of `segments`; one 0 without panoptic annotation."""
        return _decode(self.panoptic_bytes, cv2.IMREAD_UNCHANGED)

    def panoptic_ids(self) -> np.ndarray:
        """`[h, w]` int64 segment ids; a single 0 where the image has no panoptic annotation."""
        return np.concatenate([[NO_SEGMENT], self.segments.id])[self.segment_indices()]


def no_segments() -> Segments:
    """The segments of an image that has none."""
    return Segments(*_empty(np.int64, np.int32, bool))


def no_instances() -> InstanceAnnotations:
    """The instances of an image that has none."""
    ids, classes, crowd = _empty(np.int64, np.int32, bool)
    return InstanceAnnotations(ids, classes, crowd, np.zeros((0, 4), np.float32), [], segment=ids, box_segment=ids)


def no_pairs() -> Pairs:
    """The pairs of an image where nothing overlaps."""
    return Pairs(*_empty(np.int32, np.int32, np.int8, np.int8, np.int32, np.int32, np.int32))


def encode_record(record: Record) -> dict[str, Any]:
    """A record as the example that `features()` stores."""
    segments, instances, pairs = record.segments, record.instances, record.pairs
    return {
        'image': record.image_bytes,
        'image_id': record.image_id,
        'file_name': record.file_name,
        'size': np.asarray(record.size, np.int32),
        'panoptic': record.panoptic_bytes,
        'has_instances': record.has_instances,
        'has_panoptic': record.has_panoptic,
        'has_relations': record.has_relations,
        'segments': _rows(dataclasses.asdict(segments)),
        'instances': _rows(
            {
                'id': instances.id,
                'category': instances.category,
                'crowd': instances.crowd,
                'box': instances.box,
                'counts': [rle['counts'] for rle in instances.rles],
                'segment': instances.segment,
                'box_segment': instances.box_segment,
            }
        ),
        'pairs': _rows(dataclasses.asdict(pairs)),
    }


def decode_record(raw: Mapping[str, Any]) -> Record:
    """A stored example, read with `DECODERS`, as a record."""
    instances, (height, width) = raw['instances'], map(int, raw['size'])
    rles = [{'size': [height, width], 'counts': bytes(counts)} for counts in instances['counts']]
    return Record(
        image_bytes=bytes(raw['image']),
        image_id=int(raw['image_id']),
        file_name=bytes(raw['file_name']).decode(),
        size=(height, width),
        panoptic_bytes=bytes(raw['panoptic']),
        has_instances=bool(raw['has_instances']),
        has_panoptic=bool(raw['has_panoptic']),
        has_relations=bool(raw['has_relations']),
        segments=Segments(**_columns(raw['segments'], id=np.int64, category=np.int32, crowd=bool)),
        instances=InstanceAnnotations(
            **_columns(instances, id=np.int64, category=np.int32, crowd=bool, segment=np.int64, box_segment=np.int64),
            box=np.asarray(instances['box'], np.float32).reshape(-1, 4),
            rles=rles,
        ),
        pairs=Pairs(
            **_columns(
                raw['pairs'],
                first=np.int32,
                second=np.int32,
                covered=np.int8,
                truly_covered=np.int8,
                intersection=np.int32,
                first_pixels=np.int32,
                second_pixels=np.int32,
            )
        ),
    )


DECODERS = {'image': tfds.decode.SkipDecoding(), 'panoptic': tfds.decode.SkipDecoding()}
"""Decoders for `as_data_source`: pictures stay encoded, so that records travel small."""


def _decode(content: bytes, flags: int) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if decoded is None:
        raise ValueError(f'a stored picture of {len(content)} bytes cannot be decoded')
    return decoded


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _columns(raw: Mapping[str, Any], **dtypes: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(raw[name], dtype).reshape(-1) for name, dtype in dtypes.items()}


def _empty(*dtypes: type) -> list[np.ndarray]:
    return [np.zeros(0, dtype) for dtype in dtypes]

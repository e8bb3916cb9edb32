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

from sognet_jax.data.relations import RLE

NO_SEGMENT = 0
"""Segment id of unlabelled pixels in a panoptic map, and of instances that have no segment."""


def features() -> tfds.features.FeaturesDict:
    """The features of every builder of this package."""
    return tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(shape=(None, None, 3)),
            'image_id': np.int64,
            'panoptic': tfds.features.Image(shape=(None, None, 3), encoding_format='png'),
            'has_instances': np.bool_,
            'has_panoptic': np.bool_,
            'segments': tfds.features.Sequence({'id': np.int64, 'category': np.int32, 'crowd': np.bool_}),
            'instances': tfds.features.Sequence(
                {
                    'id': np.int64,
                    'category': np.int32,
                    'crowd': np.bool_,
                    'box': tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    'counts': tfds.features.Text(),
                    'segment': np.int64,
                }
            ),
            'pairs': tfds.features.Sequence(
                {'first': np.int32, 'second': np.int32, 'covered': np.int8, 'truly_covered': np.int8}
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
class Instances:
    """Instance annotations: `[n]` each, boxes `[n, 4]` half-open in pixels of the original image.

    `category` is the thing class 0..T-1; `segment` the panoptic segment's id or 0.
    """

    id: np.ndarray
    category: np.ndarray
    crowd: np.ndarray
    box: np.ndarray
    rles: list[RLE]
    segment: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs with R = 1 (Eq. 11): indices into the instances, `[p]` each.

    `covered` is R*, 0: first is covered by second, 1: second is covered by first, -1: undecided. `truly_covered` is the
    same for the order that a scene was drawn in, -1 where nobody knows.
    """

    first: np.ndarray
    second: np.ndarray
    covered: np.ndarray
    truly_covered: np.ndarray


@dataclasses.dataclass(frozen=True)
class Record:
    """One stored image with its annotations; image and panoptic map stay encoded until they are asked for."""

    image_bytes: bytes
    image_id: int
    panoptic_bytes: bytes
    has_instances: bool
    has_panoptic: bool
    segments: Segments
    instances: Instances
    pairs: Pairs

    def image(self) -> np.ndarray:
        """`[h, w, 3]` uint8 RGB."""
        decoded = cv2.imdecode(np.frombuffer(self.image_bytes, np.uint8), cv2.IMREAD_COLOR)
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)

    def panoptic_ids(self) -> np.ndarray:
        """`[h, w]` int32 segment ids; a single 0 where the image has no panoptic annotation."""
        return decode_ids(self.panoptic_bytes)


def encode_image(image: np.ndarray) -> bytes:
    """`[h, w, 3]` uint8 RGB as a PNG."""
    return cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_ids(ids: np.ndarray) -> bytes:
    """`[h, w]` segment ids as a PNG with id = R + 256 G + 65536 B, the COCO panoptic format."""
    ids = ids.astype(np.int64)
    bgr = np.stack([ids >> 16, ids >> 8, ids], axis=-1) & 255
    return cv2.imencode('.png', bgr.astype(np.uint8))[1].tobytes()


def decode_ids(png: bytes) -> np.ndarray:
    """The inverse of `encode_ids`, `[h, w]` int32.

    Raises:
        ValueError: the bytes are not a whole PNG.
    """
    bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError('not a readable PNG')
    bgr = bgr.astype(np.int32)
    return bgr[..., 2] + 256 * bgr[..., 1] + 65536 * bgr[..., 0]


def encode_record(record: Record) -> dict[str, Any]:
    """A record as the example that `features()` stores."""
    segments, instances, pairs = record.segments, record.instances, record.pairs
    return {
        'image': record.image_bytes,
        'image_id': record.image_id,
        'panoptic': record.panoptic_bytes,
        'has_instances': record.has_instances,
        'has_panoptic': record.has_panoptic,
        'segments': _rows(dataclasses.asdict(segments)),
        'instances': _rows(
            {
                'id': instances.id,
                'category': instances.category,
                'crowd': instances.crowd,
                'box': instances.box,
                'counts': [rle['counts'] for rle in instances.rles],
                'segment': instances.segment,
            }
        ),
        'pairs': _rows(dataclasses.asdict(pairs)),
    }


def decode_record(raw: Mapping[str, Any]) -> Record:
    """A stored example, read with `DECODERS`, as a record."""
    instances = raw['instances']
    image_bytes, panoptic_bytes = bytes(raw['image']), bytes(raw['panoptic'])
    size = _png_size(panoptic_bytes) if raw['has_panoptic'] else None
    if size is None:
        size = cv2.imdecode(np.frombuffer(image_bytes, np.uint8), cv2.IMREAD_GRAYSCALE).shape
    rles = [{'size': list(size), 'counts': bytes(counts)} for counts in instances['counts']]
    return Record(
        image_bytes=image_bytes,
        image_id=int(raw['image_id']),
        panoptic_bytes=panoptic_bytes,
        has_instances=bool(raw['has_instances']),
        has_panoptic=bool(raw['has_panoptic']),
        segments=Segments(**_columns(raw['segments'], id=np.int64, category=np.int32, crowd=bool)),
        instances=Instances(
            **_columns(instances, id=np.int64, category=np.int32, crowd=bool, segment=np.int64),
            box=np.asarray(instances['box'], np.float32).reshape(-1, 4),
            rles=rles,
        ),
        pairs=Pairs(**_columns(raw['pairs'], first=np.int32, second=np.int32, covered=np.int8, truly_covered=np.int8)),
    )


DECODERS = {'image': tfds.decode.SkipDecoding(), 'panoptic': tfds.decode.SkipDecoding()}
"""Decoders for `as_data_source`: pictures stay encoded, so that records travel small."""


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _columns(raw: Mapping[str, Any], **dtypes: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(raw[name], dtype).reshape(-1) for name, dtype in dtypes.items()}


def _png_size(png: bytes) -> tuple[int, int]:
    """Height and width from a PNG's header."""
    width, height = np.frombuffer(png, '>u4', count=2, offset=16)
    return int(height), int(width)

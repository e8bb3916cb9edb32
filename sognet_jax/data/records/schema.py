"""How one annotated image is stored: the same tfds features for every data set.

Everything is kept at the image's own resolution; `transforms` makes the static arrays of training from it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from sognet_jax.data.records.png import encode_indices
from sognet_jax.data.records.relations import RLE, UNDECIDED, decide_pairs, find_pairs

T = TypeVar('T')

NO_SEGMENT = 0
"""Segment id of unlabelled pixels in a panoptic map, and of instances that have no segment."""

DECODERS = {'image': tfds.decode.SkipDecoding(), 'panoptic': tfds.decode.SkipDecoding()}
"""Decoders for `as_data_source`: pictures stay encoded, so that records travel small."""


PLAIN = {
    'image_id': np.int64,
    'file_name': tfds.features.Text(),
    'has_instances': np.bool_,
    'has_panoptic': np.bool_,
    'has_relations': np.bool_,
}
"""Attributes of a record that are stored under their own names, as they are."""


def _column(dtype: type, *shape: int) -> Any:
    """A field with a row for each entry of a table, stored under its own name; without any entry by default."""
    empty: np.ndarray = np.zeros((0, *shape), dtype)
    feature = tfds.features.Tensor(shape=shape, dtype=dtype) if shape else dtype
    metadata = {'dtype': dtype, 'shape': shape, 'feature': feature}
    return dataclasses.field(default_factory=lambda: empty, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Segments:
    """Panoptic segments: id in the map, semantic train id, crowd. `[s]` each."""

    id: np.ndarray = _column(np.int64)
    category: np.ndarray = _column(np.int32)
    crowd: np.ndarray = _column(np.bool_)


@dataclasses.dataclass(frozen=True)
class InstanceAnnotations:
    """Instance annotations: `[n]` each, boxes `[n, 4]` half-open in pixels of the original image.

    `category` is the thing class 0..T-1; `segment` the id of the instance's panoptic segment by category and mask, one
    to one, or 0 (`relations.match_segments`); `box_segment` the same by the published code's rule
    (`relations.match_segments_by_box`).
    """

    id: np.ndarray = _column(np.int64)
    category: np.ndarray = _column(np.int32)
    crowd: np.ndarray = _column(np.bool_)
    box: np.ndarray = _column(np.float32, 4)
    rles: list[RLE] = dataclasses.field(default_factory=list)  # stored as `counts`
    segment: np.ndarray = _column(np.int64)
    box_segment: np.ndarray = _column(np.int64)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs with R = 1 (Eq. 11): indices into the instances, `[p]` each.

    `covered` is R*, 0: first is covered by second, 1: second is covered by first, -1: undecided. `truly_covered` is the
    same for the order that a scene was drawn in, -1 where nobody knows. `intersection` counts the pixels that the two
    masks share; `first_pixels` and `second_pixels` those of them that the panoptic map gives to either.
    """

    first: np.ndarray = _column(np.int32)
    second: np.ndarray = _column(np.int32)
    covered: np.ndarray = _column(np.int8)
    truly_covered: np.ndarray = _column(np.int8)
    intersection: np.ndarray = _column(np.int32)
    first_pixels: np.ndarray = _column(np.int32)
    second_pixels: np.ndarray = _column(np.int32)


@dataclasses.dataclass(frozen=True)
class Record:
    """One stored image with its annotations, none by default; image and panoptic map stay encoded until asked for."""

    image_bytes: bytes  # the image file
    image_id: int  # its number in the data set
    file_name: str  # its name there, with folders below that of the split, if any
    size: tuple[int, int]  # its height and width
    # a PNG of one channel, `[h, w]`: 0 where a pixel is unlabelled, k where it belongs to row k - 1 of `segments`. One
    # pixel of 0 where the image has no panoptic annotation.
    panoptic_bytes: bytes = encode_indices(np.zeros((1, 1)))
    # which annotations the image has (without any object in it, they are empty)
    has_instances: bool = False
    has_panoptic: bool = False
    has_relations: bool = False  # whether it is known which instances overlap
    # the annotations
    segments: Segments = Segments()
    instances: InstanceAnnotations = InstanceAnnotations()
    pairs: Pairs = Pairs()

    def image(self) -> np.ndarray:
        """`[h, w, 3]` uint8 RGB."""
        return cv2.cvtColor(_decode(self.image_bytes, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def segment_indices(self) -> np.ndarray:
        """`[h, w]` uint8 or uint16: 0 unlabelled, k row k - 1 of `segments`; one 0 without panoptic annotation."""
        return _decode(self.panoptic_bytes, cv2.IMREAD_UNCHANGED)

    def panoptic_ids(self) -> np.ndarray:
        """`[h, w]` int64 segment ids; a single 0 where the image has no panoptic annotation."""
        return np.concatenate([[NO_SEGMENT], self.segments.id])[self.segment_indices()]


def related(rles: Sequence[RLE], crowd: np.ndarray, segment_rles: Sequence[RLE], rows: np.ndarray) -> Pairs:
    """The pairs of an image's instances, as `relations.find_pairs` finds and `decide_pairs` decides them; their true
    order is unknown.
    """
    if not len(rles):
        return Pairs()
    ends, intersections = find_pairs(rles, crowd)
    covered, pixels = decide_pairs(rles, ends, segment_rles, rows)
    unknown = np.full(len(ends), UNDECIDED, np.int8)
    return Pairs(ends[:, 0], ends[:, 1], covered, unknown, intersections, pixels[:, 0], pixels[:, 1])


def features() -> tfds.features.FeaturesDict:
    """The features of every builder of this package."""
    tables = {'segments': Segments, 'instances': InstanceAnnotations, 'pairs': Pairs}
    columns = {
        name: {field.name: field.metadata['feature'] for field in _columns(table)} for name, table in tables.items()
    }
    columns['instances']['counts'] = tfds.features.Text()
    return tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(shape=(None, None, 3)),
            'size': tfds.features.Tensor(shape=(2,), dtype=np.int32),
            'panoptic': tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format='png'),
            **PLAIN,
            **{name: tfds.features.Sequence(of_table) for name, of_table in columns.items()},
        }
    )


def encode_record(record: Record) -> dict[str, Any]:
    """A record as the example that `features()` stores."""
    return {
        'image': record.image_bytes,
        'size': np.asarray(record.size, np.int32),
        'panoptic': record.panoptic_bytes,
        **{name: getattr(record, name) for name in PLAIN},
        'segments': _rows(record.segments),
        'instances': _rows(record.instances, counts=[rle['counts'] for rle in record.instances.rles]),
        'pairs': _rows(record.pairs),
    }


def decode_record(raw: Mapping[str, Any]) -> Record:
    """A stored example, read with `DECODERS`, as a record."""
    height, width = map(int, raw['size'])
    rles = [{'size': [height, width], 'counts': bytes(counts)} for counts in raw['instances']['counts']]
    return Record(
        image_bytes=bytes(raw['image']), image_id=int(raw['image_id']), file_name=bytes(raw['file_name']).decode(),
        size=(height, width), panoptic_bytes=bytes(raw['panoptic']), has_instances=bool(raw['has_instances']),
        has_panoptic=bool(raw['has_panoptic']), has_relations=bool(raw['has_relations']),
        segments=_table(Segments, raw['segments']), instances=_table(InstanceAnnotations, raw['instances'], rles=rles),
        pairs=_table(Pairs, raw['pairs']),
    )  # fmt: skip


def _decode(content: bytes, flags: int) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if decoded is None:
        raise ValueError(f'a stored picture of {len(content)} bytes cannot be decoded')
    return decoded


def _columns(table: Any) -> list[dataclasses.Field]:
    """The fields of a table, or of its class, that are stored as they are."""
    return [field for field in dataclasses.fields(table) if field.metadata]


def _rows(table: Any, **more: Sequence[Any]) -> list[dict[str, Any]]:
    columns = {field.name: getattr(table, field.name) for field in _columns(table)} | more
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _table(kind: type[T], raw: Mapping[str, Any], **more: Any) -> T:
    columns = {
        field.name: np.asarray(raw[field.name], field.metadata['dtype']).reshape(-1, *field.metadata['shape'])
        for field in _columns(kind)
    }
    return kind(**columns, **more)

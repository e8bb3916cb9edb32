"""Images and maps as PNG: the COCO panoptic format that files have, and the indices that records are stored with."""

from __future__ import annotations

import cv2
import numpy as np

MAX_SEGMENTS = 65_535
"""So many segments can be told apart in a stored map."""

NUM_IDS = 256**3
"""Segment ids are smaller: three bytes."""

SMALL = (*(cv2.IMWRITE_PNG_COMPRESSION, 6), *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT))
"""OpenCV's own settings are for photographs: maps of segments become more than twice as large."""


def encode_image(image: np.ndarray) -> bytes:
    """`[h, w, 3]` uint8 RGB as a PNG."""
    return cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_indices(indices: np.ndarray) -> bytes:
    """`[h, w]` of 0 .. 65535 as a PNG with one channel, of 8 bits where they suffice."""
    dtype = np.uint8 if indices.max(initial=0) < 256 else np.uint16
    return cv2.imencode('.png', indices.astype(dtype))[1].tobytes()


def index_ids(ids: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
    """`[h, w]` segment ids, below `NUM_IDS`, as indices: 0 for the id 0, k for the id `segment_ids[k - 1]`, uint16.

    Ids that are no segment's become 0.
    """
    # Most of it is never touched, and so costs nothing.
    index_of = np.zeros(NUM_IDS, np.uint16)
    index_of[segment_ids] = np.arange(1, len(segment_ids) + 1)
    return index_of[ids]


def encode_ids(ids: np.ndarray) -> bytes:
    """`[h, w]` segment ids as a PNG with id = R + 256 G + 65536 B, the COCO panoptic format."""
    ids = ids.astype(np.int64)
    bgr = np.stack([ids >> 16, ids >> 8, ids], axis=-1) & 255
    return cv2.imencode('.png', bgr.astype(np.uint8), SMALL)[1].tobytes()


def decode_ids(png: bytes) -> np.ndarray:
    """The inverse of `encode_ids`, `[h, w]` int32.

    Raises:
        ValueError: the bytes are not a whole PNG of three channels with 8 bits.
    """
    bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) if png else None
    if bgr is None:
        raise ValueError('not a readable PNG')
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
        channels = 1 if bgr.ndim == 2 else bgr.shape[2]
        raise ValueError(f'{channels} channels of {bgr.dtype}, expected R, G, B of uint8 (id = R + 256 G + 65536 B)')
    bgr = bgr.astype(np.int32)
    return bgr[..., 2] + 256 * bgr[..., 1] + 65536 * bgr[..., 0]

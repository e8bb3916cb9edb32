"""Images, and the indices of segments that records are stored with, as PNG."""

import cv2
import numpy as np

from sognet_jax.id_maps import NUM_IDS

MAX_SEGMENTS = 65_535
"""So many segments can be told apart in a stored map."""


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

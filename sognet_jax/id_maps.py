"""Maps of segment ids as pictures: the PNGs of COCO's panoptic format, id = R + 256 G + 65536 B."""

import cv2
import kornia_rs
import numpy as np

NUM_IDS = 256**3
"""Segment ids are smaller: three bytes."""

PNG_START, PNG_HEADER, PNG_END = b'\x89PNG\r\n\x1a\n', b'IHDR', b'IEND'
PNG_LEAST = 33
"""Bytes up to the end of the header."""

MAX_PIXELS = 2**27
"""Larger pictures are not decoded: 400 MB."""

PNG_KINDS = {0: 'grey', 2: 'R, G, B', 3: 'a palette', 4: 'grey and alpha', 6: 'R, G, B, alpha'}

SMALL = (*(cv2.IMWRITE_PNG_COMPRESSION, 6), *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT))
"""OpenCV's own settings are for photographs: maps of segments become more than twice as large."""


def encode_ids(ids: np.ndarray) -> bytes:
    """`[h, w]` segment ids, below `NUM_IDS`, as a PNG."""
    ids = ids.astype(np.int64)
    bgr = np.stack([ids >> 16, ids >> 8, ids], axis=-1) & 255
    return cv2.imencode('.png', bgr.astype(np.uint8), SMALL)[1].tobytes()


def decode_ids(content: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """The inverse of `encode_ids`, `[h, w]` int32; `size` is the height and width that it should have.

    Raises:
        ValueError: the bytes are no whole PNG of three channels with 8 bits, or it has another size.
    """
    return color_ids(decode_colors(content, size))


def decode_colors(content: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """`[h, w, 3]` uint8, R, G, B of a PNG; raises as `decode_ids`.

    The checksums of its parts have to be right; that of the compressed stream in them is not looked at.
    """
    height, width = png_size(content)
    bits, kind = content[24:26]
    if (bits, kind) != (8, 2):
        raise ValueError(f'has {PNG_KINDS.get(kind, "unknown")} channels of {bits} bits, expected R, G, B of 8 bits')
    if size is not None and (height, width) != size:
        raise ValueError(f'is {height} x {width} (height x width), the image {size[0]} x {size[1]}')
    try:
        # It takes two fifths of OpenCV's time, and says what is wrong.
        return kornia_rs.io.decode_image_png_u8(content, (height, width), 'rgb')
    except Exception as error:  # it has no narrower type
        raise ValueError(f'cannot be decoded: {error}') from error


def png_size(content: bytes) -> tuple[int, int]:
    """Height and width of a PNG whose parts are all there.

    Decoders take as much memory as a damaged part asks for, and some complain of others on the console.

    Raises:
        ValueError: the bytes are no PNG, or too large a one, or parts are missing or damaged.
    """
    if not content.startswith(PNG_START):
        raise ValueError('is not a PNG')
    position = len(PNG_START)
    while content[position + 4 : position + 8] != PNG_END:
        position += 12 + int.from_bytes(content[position : position + 4], 'big')
        if position + 12 > len(content):
            raise ValueError('is truncated, or has a damaged part')
    if position < PNG_LEAST or content[12:16] != PNG_HEADER:
        raise ValueError('is truncated, or has a damaged part')
    width, height = int.from_bytes(content[16:20], 'big'), int.from_bytes(content[20:24], 'big')
    if width * height > MAX_PIXELS:
        raise ValueError(f'is {height} x {width} (height x width): more than {MAX_PIXELS} pixels')
    return height, width


def color_ids(colors: np.ndarray) -> np.ndarray:
    """`[h, w]` int32 ids of `[h, w, 3]` uint8 R, G, B."""
    # Four bytes a pixel, with R first, are the id as a little-endian number, but for the fourth byte.
    ids = cv2.cvtColor(colors, cv2.COLOR_RGB2RGBA).view('<i4')[..., 0]
    ids &= NUM_IDS - 1
    return ids

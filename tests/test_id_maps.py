"""Maps of ids as PNGs: the pixels that OpenCV and Pillow decode, whoever wrote them; what is said of damaged ones."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from sognet_jax.id_maps import PNG_START, decode_colors, decode_ids, encode_ids

IDS = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 2**24, (5, 9)), 7, axis=0), 5, axis=1)[:, :41]
FILTERS = range(5)
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Adam7: first row and column, and their steps."""


def colors_of(ids):
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def chunk(name, content):
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))


def png(rows, height, width, interlaced=0, before=b'', pieces=1):
    """A PNG of filtered rows."""
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, interlaced)
    stream = zlib.compress(rows)
    cuts = np.linspace(0, len(stream), pieces + 1).astype(int)
    parts = [chunk(b'IDAT', stream[start:end]) for start, end in zip(cuts[:-1], cuts[1:], strict=True)]
    return b''.join([PNG_START, chunk(b'IHDR', header), before, *parts, chunk(b'IEND', b'')])


def filtered(colors, kinds):
    """The rows of a picture with these filters in turn, as the PNG specification defines them."""
    lines = colors.reshape(len(colors), -1).astype(int)
    above, left = np.zeros_like(lines), np.zeros_like(lines)
    above[1:], left[:, 3:] = lines[:-1], lines[:, :-3]
    corner = np.zeros_like(lines)
    corner[1:, 3:] = lines[:-1, :-3]
    estimate = left + above - corner
    distance = np.abs(estimate - np.stack([left, above, corner]))
    paeth = np.choose(np.argmin(distance, axis=0), [left, above, corner])
    guesses = [np.zeros_like(lines), left, above, (left + above) // 2, paeth]
    rows = []
    for index, line in enumerate(lines):
        kind = kinds[index % len(kinds)]
        rows.append(bytes([kind]) + ((line - guesses[kind][index]) & 255).astype(np.uint8).tobytes())
    return b''.join(rows)


def interlaced(colors):
    parts = [colors[top::down, left::right] for top, left, down, right in PASSES]
    return b''.join(filtered(part, [0]) for part in parts if part.size)


def by_pillow(colors):
    stream = io.BytesIO()
    Image.fromarray(colors).save(stream, 'png')
    return stream.getvalue()


COLORS = colors_of(IDS)
SIZE = IDS.shape
WRITTEN = {
    'ours': encode_ids(IDS),
    'OpenCV': cv2.imencode('.png', COLORS[..., ::-1])[1].tobytes(),
    'Pillow': by_pillow(COLORS),
    'filters': png(filtered(COLORS, FILTERS), *SIZE),
    'pieces': png(filtered(COLORS, FILTERS), *SIZE, pieces=9),
    'interlaced': png(interlaced(COLORS), *SIZE, interlaced=1),
    'gamma': png(filtered(COLORS, FILTERS), *SIZE, before=chunk(b'gAMA', struct.pack('>I', 45455))),
    'profile': png(filtered(COLORS, FILTERS), *SIZE, before=chunk(b'sRGB', b'\0')),
    'transparent colour': png(filtered(COLORS, FILTERS), *SIZE, before=chunk(b'tRNS', bytes(6))),
    'orientation': png(
        filtered(COLORS, FILTERS),
        *SIZE,
        before=chunk(b'eXIf', b'MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\1\0\x03\0\0\0\0\0\0'),
    ),
}


@pytest.mark.parametrize('content', WRITTEN.values(), ids=WRITTEN)
def test_pixels_are_those_of_opencv_and_pillow(content):
    decoded = decode_colors(content, SIZE)
    assert decoded.dtype == np.uint8
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    np.testing.assert_array_equal(decoded, cv2.imdecode(np.frombuffer(content, np.uint8), flags))
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(content)).convert('RGB')))
    np.testing.assert_array_equal(decode_ids(content, SIZE), IDS)


ROWS = filtered(COLORS, FILTERS)
WHOLE = WRITTEN['filters']
DATA = WHOLE.index(b'IDAT') + 4
DAMAGED = {
    'data': WHOLE[:DATA] + bytes([WHOLE[DATA] ^ 1]) + WHOLE[DATA + 1 :],
    'checksum of the data': WHOLE[:-16] + bytes([WHOLE[-16] ^ 1]) + WHOLE[-15:],
    'checksum of the header': WHOLE[:29] + bytes([WHOLE[29] ^ 1]) + WHOLE[30:],
    'a row too few': png(ROWS[: -len(ROWS) // len(IDS)], *SIZE),
    'a byte too few': png(ROWS[:-1], *SIZE),
    'no data': png(b'', *SIZE),
    'unknown filter': png(b'\x05' + ROWS[1:], *SIZE),
    'unknown interlacing': png(ROWS, *SIZE, interlaced=2),
    'unknown part that cannot be left out': png(ROWS, *SIZE, before=chunk(b'ABCD', b'')),
    'no pixels': png(b'', 0, 7),
}


@pytest.mark.parametrize('content', DAMAGED.values(), ids=DAMAGED)
def test_damage_is_an_error_of_one_line_and_nothing_is_printed(content, capfd):
    with pytest.raises(ValueError, match=r'\Acannot be decoded: [^\n]+\Z'):
        decode_ids(content)
    assert capfd.readouterr() == ('', '')

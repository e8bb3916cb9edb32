"""Image files: finding them, and judging whether each is whole and can be used."""

import io
import pathlib
import re
import warnings
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from sognet_jax.id_maps import MAX_PIXELS, PNG_START, png_size

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
"""Files of a folder that count as images; a file that is named itself may be called anything."""

JPEG_START = b'\xff\xd8'

FEW_BYTES = 64
"""So many between the picture and its end do not say that anything is missing."""

MOST_OBLONG = 32
"""The longer side of an image is at most so many times the shorter: what is thinner vanishes when it is resized."""

DARK = 2**14
"""Of 16 bits: where only the brightest `HOT` of the values reach it, 10, 12 or 14 bits were written into 16."""

HOT = 1e-3
"""Share of values that single pixels which are always bright may have."""

ORIENTATION = 0x112
"""The field of EXIF."""


class ImageError(ValueError):
    """An image is missing or broken; the message names the file or folder."""


def find_images(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
    """The image files that are named, and those that lie in the folders that are named (not in folders of those): every
    image once, in the given order, those of a folder by name.

    Raises:
        ImageError: there is no such file, or a folder has no images.
    """
    images: dict[pathlib.Path, pathlib.Path] = {}
    for path in map(pathlib.Path, paths):
        found = [path]
        if path.is_dir():
            found = sorted(child for child in path.iterdir() if looks_like_an_image(child))
            if not found:
                raise ImageError(f'{path}: no images in this folder ({", ".join(SUFFIXES)})')
        elif not path.is_file():
            raise ImageError(f'{path}: no such image or folder')
        for image in found:
            images.setdefault(image.resolve(), image)
    return list(images.values())


def read_image(path: pathlib.Path) -> np.ndarray:
    """The whole of an image file, `[h, w, 3]` uint8 RGB.

    Raises:
        ImageError: the file cannot be read, is truncated, or is no image.
    """
    try:
        return cv2.cvtColor(decode_image(path.read_bytes()), cv2.COLOR_BGR2RGB)
    except OSError as error:
        raise ImageError(f'{path}: cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise ImageError(f'{path}: {error}') from error


def decode_image(content: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """The whole of an image file, `[h, w, 3]` BGR, uint8; not decoded if its number of pixels is not that of `size`.

    Raises:
        ValueError: it is no image, a damaged or truncated one, of another size, or has dark values of 16 bits.
    """
    height, width = png_size(content) if content.startswith(PNG_START) else _stated_size(content)
    # Before memory is taken for it.
    if size is not None and width * height != size[0] * size[1]:
        raise ValueError(f'is {_words((height, width))}, its record says {_words(size)}')
    if content.startswith(JPEG_START):
        _require_whole_jpeg(content)
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise ValueError(f'no image that can be decoded, or a truncated one ({len(content)} bytes)')
    if size is not None and decoded.shape[:2] != size:
        turned = ', turned by its EXIF orientation' if decoded.shape[:2] != (height, width) else ''
        raise ValueError(f'is {_words(decoded.shape)}{turned}, its record says {_words(size)}')
    if decoded.dtype == np.uint8:
        return decoded
    brightest = np.quantile(decoded, 1 - HOT)
    if decoded.dtype != np.uint16 or brightest < DARK:
        text = f'has {decoded.dtype} values up to {brightest:.5g}, of which 8 bits would be kept: nearly black'
        raise ValueError(f'{text}; save it with 8 bits a channel, 0..{brightest:.5g} stretched to 0..255')
    return (decoded // 256).astype(np.uint8)  # as OpenCV does it where records are read


def is_turned(content: bytes) -> bool:
    """Whether a picture's EXIF field says that it is to be turned or mirrored, which is done where it is read."""
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(io.BytesIO(content)) as image:
            return image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except Exception:  # a field that cannot be read turns nothing
        return False


def require_usable(size: tuple[int, int]) -> None:
    """Refuses a height and width that the network cannot use, by a ValueError that says why."""
    if max(size) > MOST_OBLONG * min(size):
        raise ValueError(f'is {_words(size)}: more than {MOST_OBLONG} times as long as wide')


def _words(size: Sequence[int]) -> str:
    return f'{size[0]} x {size[1]} (height x width)'


def _stated_size(content: bytes) -> tuple[int, int]:
    """Height and width, from a file's first bytes."""
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise ValueError(f'is too large: {error}') from error
    except Exception as error:  # whatever Pillow's readers meet in a damaged header
        raise ValueError(f'no image that can be decoded, or a truncated one ({len(content)} bytes)') from error
    if width * height > MAX_PIXELS:
        raise ValueError(f'is {_words((height, width))}: more than {MAX_PIXELS} pixels')
    return height, width


def _require_whole_jpeg(content: bytes) -> None:
    """Decoders fill with grey what is damaged, and warn at most on the console."""
    try:
        simplejpeg.decode_jpeg(content, 'GRAY', strict=True)
    except ValueError as error:
        # A few bytes too many harm nothing; other complaints are of kinds of JPEG that OpenCV may take.
        extraneous = re.search(r'(\d+) extraneous bytes', str(error))
        is_damaged = int(extraneous[1]) > FEW_BYTES if extraneous else re.search('remature end|Corrupt', str(error))
        if is_damaged:
            raise ValueError(f'this JPEG is damaged or truncated ({error})') from error


def looks_like_an_image(path: pathlib.Path) -> bool:
    """By its name, whether a file of a folder counts as one."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and not path.is_dir()

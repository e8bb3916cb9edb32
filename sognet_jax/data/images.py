"""Image files without annotations: finding them, and reading each as a record that has nothing but its image."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from sognet_jax.data.schema import Instances, Pairs, Record, Segments, encode_ids

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
"""Files of a folder that count as images; a file that is named itself may be called anything."""


class ImageError(ValueError):
    """An image is missing or broken; the message names the file or folder."""


def find_images(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
    """The image files that are named, and those that lie in the folders that are named (not in folders of those).

    Args:
        paths: files and folders.

    Returns:
        Every image once, in the given order, those of a folder by name.

    Raises:
        ImageError: there is no such file, or a folder has no images.
    """
    images: dict[pathlib.Path, pathlib.Path] = {}
    for path in map(pathlib.Path, paths):
        found = [path]
        if path.is_dir():
            found = sorted(child for child in path.iterdir() if _looks_like_an_image(child))
            if not found:
                raise ImageError(f'{path}: no images in this folder ({", ".join(SUFFIXES)})')
        elif not path.is_file():
            raise ImageError(f'{path}: no such image or folder')
        for image in found:
            images.setdefault(image.resolve(), image)
    return list(images.values())


def image_record(path: pathlib.Path, image_id: int) -> Record:
    """An image file as a record without annotations, after checking that all of it can be decoded.

    Args:
        path: of the file.
        image_id: the record's id.

    Raises:
        ImageError: the file cannot be read, is truncated, or is no image.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f'{path}: cannot be read: {error.strerror}') from error
    record = Record(
        image_bytes=content,
        image_id=image_id,
        panoptic_bytes=encode_ids(np.zeros((1, 1))),
        has_instances=False,
        has_panoptic=False,
        segments=Segments(*_nothing(np.int64, np.int32, bool)),
        instances=Instances(*_nothing(np.int64, np.int32, bool), np.zeros((0, 4), np.float32), [], *_nothing(np.int64)),
        pairs=Pairs(*_nothing(np.int32, np.int32, np.int8, np.int8)),
    )
    if _is_truncated_jpeg(content):
        raise ImageError(f'{path}: this JPEG is truncated (no end-of-image marker)')
    try:
        # OpenCV says None to most of what it cannot decode, and fails in `imdecode` or in `cvtColor` with the rest.
        record.image()
    except cv2.error as error:
        raise ImageError(f'{path}: no image that can be decoded, or a truncated one ({len(content)} bytes)') from error
    return record


def _looks_like_an_image(path: pathlib.Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()


def _nothing(*dtypes: type) -> list[np.ndarray]:
    return [np.zeros(0, dtype) for dtype in dtypes]


def _is_truncated_jpeg(content: bytes) -> bool:
    """Whether a JPEG stops before its end-of-image marker: some versions of OpenCV fill the rest with grey.

    The search starts behind the headers, which may hold a thumbnail with a marker of its own; what cameras append
    behind the image does not matter.
    """
    if not content.startswith(b'\xff\xd8'):
        return False
    position = 2
    while content[position : position + 1] == b'\xff' and content[position + 1 : position + 2] != b'\xda':
        # Bytes 0xff may fill the room before a marker; every other header says how long it is.
        is_filler = content[position + 1 : position + 2] == b'\xff'
        position += 1 if is_filler else 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    return content.find(b'\xff\xd9', position) < 0

"""Image files without annotations: finding them, and reading each as a record that has nothing but its image."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from sognet_jax.data.records.png import encode_indices
from sognet_jax.data.records.schema import Record, no_instances, no_pairs, no_segments

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


def bare_record(image_bytes: bytes, image_id: int, file_name: str, size: tuple[int, int]) -> Record:
    """A record without annotations."""
    return Record(
        image_bytes=image_bytes,
        image_id=image_id,
        file_name=file_name,
        size=size,
        panoptic_bytes=encode_indices(np.zeros((1, 1))),
        has_instances=False,
        has_panoptic=False,
        has_relations=False,
        segments=no_segments(),
        instances=no_instances(),
        pairs=no_pairs(),
    )


def decode_image(content: bytes) -> np.ndarray:
    """The whole of an image file, `[h, w, 3]` uint8 BGR.

    Raises:
        ValueError: it is no image, or a truncated one.
    """
    if _is_truncated_jpeg(content):
        raise ValueError('this JPEG is truncated (no end-of-image marker)')
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:
        decoded = None
    if decoded is None:
        raise ValueError(f'no image that can be decoded, or a truncated one ({len(content)} bytes)')
    return decoded


def _looks_like_an_image(path: pathlib.Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()


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

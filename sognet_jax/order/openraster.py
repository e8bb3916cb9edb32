"""An image as layers that can be moved: OpenRaster, which GIMP, Krita and MyPaint open (openraster.org, version 0.0.3).

Every layer holds the image's own pixels, and where a layer fades out, those behind it go on below it and are opaque. So
the layers laid on each other are the image again, soft edges and all.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from sognet_jax.data.records.png import encode_image, index_ids
from sognet_jax.scene import Scene

EDGE = 2
"""A layer fades out over so many pixels on either side of its edge."""

THUMBNAIL = 256
"""Longer side of the preview, in pixels."""


def encode_openraster(scene: Scene, instances: Sequence[Mapping[str, Any]]) -> bytes:
    """An OpenRaster file: what is no instance (stuff, void) as the background, a layer for each instance on it.

    A layer is as large as what is seen of its instance, and is called like `dog 0.93`.

    Args:
        scene: with its image, or ValueError.
        instances: its own, of `order_entry`. What has a higher `layer` lies in front, in a layer what has a higher
            `score`, of equal ones what has a lower `id`.
    """
    if scene.image is None:
        raise ValueError('there are no layers of a scene whose image was not kept')
    stack = sorted(instances, key=lambda instance: (instance['layer'], instance['score'], -instance['id']))
    image, (height, width) = scene.image, scene.panoptic.shape
    depth = index_ids(scene.panoptic, np.array([instance['id'] for instance in stack], int))
    root = ElementTree.Element('image', version='0.0.3', w=str(width), h=str(height))
    layers = ElementTree.SubElement(root, 'stack')
    reduction = max(height, width, THUMBNAIL) / THUMBNAIL
    preview = cv2.resize(image, None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA)
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:  # stored: readers look for the first file at a fixed place
        archive.writestr('mimetype', 'image/openraster')
        for number, name in enumerate(['background', *(f'{one["category"]} {one["score"]:.2f}' for one in stack)]):
            x, y, picture = _cut_out(image, _opacity(depth, number))
            archive.writestr(f'data/layer{number}.png', cv2.imencode('.png', picture)[1].tobytes())
            place = {'name': name, 'src': f'data/layer{number}.png', 'x': str(x), 'y': str(y)}
            layers.insert(0, ElementTree.Element('layer', place))  # the first one lies in front
        archive.writestr('stack.xml', ElementTree.tostring(root, 'UTF-8', xml_declaration=True))
        archive.writestr('mergedimage.png', encode_image(image))
        archive.writestr('Thumbnails/thumbnail.png', encode_image(preview))
    return content.getvalue()


def _opacity(depth: np.ndarray, number: int) -> np.ndarray:
    """`[h, w]` uint8 of the layer `number`; `depth` says which layer is seen where.

    Within reach of its edge, it goes on below the layers in front of it. That suffices: among the pixels that the
    smoothing of any pixel looks at, let s be the rearmost layer; the others are of layers in front of it and at most
    twice as far from a pixel of s, so s, grown by that, has them all and is opaque there.
    """
    own = (depth == number).astype(np.uint8)
    reach = cv2.dilate(own, np.ones((4 * EDGE + 1, 4 * EDGE + 1), np.uint8))
    grown = np.where(depth > number, reach, own) * np.uint8(255)
    return cv2.GaussianBlur(grown, (2 * EDGE + 1, 2 * EDGE + 1), 0)


def _cut_out(image: np.ndarray, opacity: np.ndarray) -> tuple[int, int, np.ndarray]:
    """x, y and the pixels, B, G, R, A, of what can be seen through `opacity`."""
    # Of a background that is nowhere seen a pixel is left: a layer has to have one.
    x, y, width, height = cv2.boundingRect(opacity) if opacity.any() else (0, 0, 1, 1)
    window = np.s_[y : y + height, x : x + width]
    alpha = opacity[window]
    picture = cv2.cvtColor(image[window], cv2.COLOR_RGB2BGRA)
    picture[..., 3] = alpha
    picture[alpha == 0] = 0  # what cannot be seen needs no bytes
    return x, y, picture

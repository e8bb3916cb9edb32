"""Anchors of the region proposal network."""

import numpy as np

RATIOS = np.array([0.5, 1.0, 2.0])
"""Height over width of the anchors."""

SCALE = 8.0
"""Their size in strides."""


def anchor_grid(height: int, width: int, stride: int) -> np.ndarray:
    """`[height, width, 3, 4]` float32 half-open anchors, in image pixels, around every pixel of a feature map.

    Published rounding: an anchor of ratio r has width round(sqrt(stride^2 / r)) and height round(width * r), both
    rounded before they are multiplied by the scale; its centre is the centre of the pixel's stride x stride window.
    """
    widths = np.round(np.sqrt(stride * stride / RATIOS))
    heights = np.round(widths * RATIOS)
    sizes = np.stack([widths, heights], axis=-1) * SCALE
    anchors = np.concatenate([stride / 2 - sizes / 2, stride / 2 + sizes / 2], axis=-1)
    x, y = np.meshgrid(np.arange(width) * stride, np.arange(height) * stride)
    return (np.stack([x, y, x, y], axis=-1)[:, :, None] + anchors).astype(np.float32)

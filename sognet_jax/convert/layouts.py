"""How the arrays of PyTorch and Caffe lie in memory, and how they become ours."""

import dataclasses
from collections.abc import Callable

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """One kind of array: the shape that the source has for a shape of ours, and how its array becomes ours."""

    source_shape: Callable[[Shape], Shape]
    convert: Callable[[np.ndarray], np.ndarray]


POOLED = 7 * 7
"""Pixels of the pooled feature that the box head flattens: channels first in the source, last here."""


def _flattened_to_channels_last(array: np.ndarray) -> np.ndarray:
    """fc6: columns in the order (channel, y, x) -> rows in the order (y, x, channel)."""
    return array.reshape(len(array), -1, POOLED).transpose(2, 1, 0).reshape(-1, len(array))


def _by_level(array: np.ndarray) -> np.ndarray:
    """Semantic score of the concatenated levels -> a matrix for each level."""
    return array[:, :, 0, 0].T.reshape(4, -1, len(array))


VECTOR = Layout(lambda shape: shape, lambda array: array)
CONVOLUTION = Layout(lambda s: (s[3], s[2], s[0], s[1]), lambda array: array.transpose(2, 3, 1, 0))
BGR_CONVOLUTION = Layout(CONVOLUTION.source_shape, lambda array: CONVOLUTION.convert(array[:, ::-1]))
"""The first convolution of a network that reads images as BGR: ours reads RGB."""
POINTWISE = Layout(lambda s: (s[1], s[0], 1, 1), lambda array: array[:, :, 0, 0].T)
LINEAR = Layout(lambda s: (s[1], s[0]), lambda array: array.T)
FLATTENED = Layout(lambda s: (s[1], s[0]), _flattened_to_channels_last)
TRANSPOSED_CONVOLUTION = Layout(lambda s: (s[0], s[3], s[1], s[2]), lambda array: array.transpose(0, 2, 3, 1))
BOXES = Layout(lambda s: (s[1] + 4, s[0]), lambda array: array[4:].T)
"""Box offsets of every class: the source has a box for the background too."""
BOXES_BIAS = Layout(lambda s: (s[0] + 4,), lambda array: array[4:])
MASKS = Layout(lambda s: (s[0] + 1, s[1], 1, 1), lambda array: array[1:, :, 0, 0])
"""Masks of every class: the source has a mask for the background too."""
MASKS_BIAS = Layout(lambda s: (s[0] + 1,), lambda array: array[1:])
LEVELS = Layout(lambda s: (s[2], s[0] * s[1], 1, 1), _by_level)

"""The data contract: what one training example is. Everything that makes or reads examples takes it from here.

`H, W` is a bucket (landscape or portrait, divisible by 32), `N` the number of instance slots, `S` and `T` the number of
stuff and thing classes. A batch has the same arrays with an axis in front.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple, TypedDict, cast

import numpy as np

SEMANTIC_IGNORE = 255
"""Semantic train id of pixels that no loss and no metric looks at."""

PANOPTIC_IGNORE = -1
"""Panoptic target of such pixels."""

PANOPTIC_STRIDE = 4
"""Pixels of the image to one of the panoptic target, which has the resolution of the semantic logits."""

MASK_SIDE = 112
"""Height and width of an annotated mask inside its box."""

MASK_LOGITS_SIDE = 28
"""Height and width of the mask head's logits, of its targets, and of the appearance m_i of the relation head."""

FILLER = -1
"""`record_index` of what only fills a batch."""


class ArraySpec(NamedTuple):
    """Shape and type of an array."""

    shape: str
    dtype: type[np.generic]


class Example(TypedDict, total=False):
    """The arrays of one example, or of a batch of them.

    The relation head alone is trained without `image`, `image_size`, `semantic` and `panoptic`. Rows and columns of
    crowd and of empty slots are 0 in `overlap`, `order` and `true_order`.
    """

    image: Annotated[np.ndarray, ArraySpec('H W 3', np.uint8)]
    """RGB, resized, padded at the right and bottom; normalised on the device."""
    image_size: Annotated[np.ndarray, ArraySpec('2', np.int32)]
    """Height and width of the valid part."""
    scale: Annotated[np.ndarray, ArraySpec('', np.float32)]
    """Resized over original."""
    image_id: Annotated[np.ndarray, ArraySpec('', np.int32)]
    original_size: Annotated[np.ndarray, ArraySpec('2', np.int32)]
    mirrored: Annotated[np.ndarray, ArraySpec('', np.bool_)]
    """Left and right are exchanged."""
    boxes: Annotated[np.ndarray, ArraySpec('N 4', np.float32)]
    """Half open x1, y1, x2, y2 in pixels of `image`."""
    classes: Annotated[np.ndarray, ArraySpec('N', np.int32)]
    """Thing class 0 .. T-1."""
    valid: Annotated[np.ndarray, ArraySpec('N', np.bool_)]
    """Which slots hold an instance."""
    crowd: Annotated[np.ndarray, ArraySpec('N', np.bool_)]
    """Crowd regions: ignored, never trained on."""
    masks: Annotated[np.ndarray, ArraySpec('N 112 112', np.uint8)]
    """The annotation of the instance inside its box, in {0, 1}; instances may overlap."""
    semantic: Annotated[np.ndarray, ArraySpec('H W', np.uint8)]
    """Train id, stuff 0 .. S-1, things S .. S+T-1, or `SEMANTIC_IGNORE`."""
    panoptic: Annotated[np.ndarray, ArraySpec('H/4 W/4', np.int16)]
    """0 .. S-1 stuff, S + i instance slot i, or `PANOPTIC_IGNORE`."""
    overlap: Annotated[np.ndarray, ArraySpec('N N', np.bool_)]
    """R of Eq. (11), computed on the annotation at its own resolution."""
    order: Annotated[np.ndarray, ArraySpec('N N', np.bool_)]
    """R*: i is covered by j, from the instance and the panoptic annotation."""
    decided: Annotated[np.ndarray, ArraySpec('N N', np.bool_)]
    """Symmetric: the order of the pair is known; of pairs that do not overlap it is."""
    true_order: Annotated[np.ndarray, ArraySpec('N N', np.bool_)]
    """i is covered by j in a scene that was drawn; all 0 where nobody knows."""
    has_instances: Annotated[np.ndarray, ArraySpec('', np.bool_)]
    has_panoptic: Annotated[np.ndarray, ArraySpec('', np.bool_)]
    """Which annotations the image has: a loss whose annotation is missing is off for it."""
    dropped: Annotated[np.ndarray, ArraySpec('', np.int32)]
    """Instances that found no slot."""
    record_index: Annotated[np.ndarray, ArraySpec('', np.int32)]
    """In evaluation: the image's place in its split, or `FILLER`."""
    example_index: Annotated[np.ndarray, ArraySpec('', np.int32)]
    """In training: the place in the batch over all devices, which random choices depend on."""


def map_arrays(function: Callable[..., np.ndarray], *examples: Example) -> Example:
    """The example of what `function` makes of the arrays of one name, for each name that the first example has."""
    # Under names that are no literals, the checker knows an example as a plain dict alone.
    arrays = cast(tuple[dict[str, np.ndarray], ...], examples)
    return cast(Example, {name: function(*(example[name] for example in arrays)) for name in arrays[0]})

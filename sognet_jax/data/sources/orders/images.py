"""One form for images whose instances have a known order, whatever format they come in; and what masks say of it."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.data.records.relations import RLE, common_areas

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
"""A pixel and its four neighbours."""

NO_DEPTH = np.zeros((0, 5), int)


class OrderedImage(NamedTuple):
    """The n instances of an image, and who covers whom.

    Attributes:
        place: where that is said, for messages.
        ids: `[n]` int64, as the file numbers them; `names` of their classes.
        whole, visible: their masks, with and without what is hidden; empty lists where nobody asked for them.
        covered: `[n, n]` bool, i is covered by j; both ways of mutual pairs.
        decided: `[n, n]` bool, symmetric: the order of the pair is known (it may be that neither covers the other).
        depth: `[p, 5]` int, pairs of judged distance: two instances, of which the first is nearer, unless
            neither is (third column); whether their depth ranges overlap; how many answers it took until two agreed.
    """

    place: str
    image_file: pathlib.Path
    file_name: str
    image_id: int
    size: tuple[int, int]
    ids: np.ndarray
    names: Sequence[str]
    whole: Sequence[RLE]
    visible: Sequence[RLE]
    covered: np.ndarray
    decided: np.ndarray
    depth: np.ndarray


def covered_of(over: np.ndarray) -> np.ndarray:
    """What the formats say, i lies over j, as what this project says, i is covered by j: turned nowhere else."""
    return over.T.copy()


def touching(masks: Sequence[RLE]) -> np.ndarray:
    """`[n, n]` bool, pairs of masks that share a pixel or have neighbours (of four)."""
    grown = [coco_mask.encode(np.asfortranarray(cv2.dilate(coco_mask.decode(mask), CROSS))) for mask in masks]
    near = common_areas(grown, masks) > 0
    return (near | near.T) & ~np.eye(len(masks), dtype=bool)


def order_of_masks(visible: Sequence[RLE], whole: Sequence[RLE]) -> tuple[np.ndarray, np.ndarray]:
    """`[n, n]` who lies over whom, and which pairs are decided, as COCOA and KINS are scored.

    Of two whose visible masks touch, that lies over the other whose visible mask shares more pixels with the other's
    whole mask. Where nothing is shared, neither does; where both share as many, or do not touch, nobody knows.
    """
    hidden, different = common_areas(visible, whole), ~np.eye(len(visible), dtype=bool)
    over = (hidden > hidden.T) & touching(visible)
    return over, over | over.T | ((hidden == 0) & (hidden.T == 0) & different)

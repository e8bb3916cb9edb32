"""From the id map at network size to panoptic segments at the image's own size (host side)."""

import cv2
import numpy as np

from sognet_jax.scene import Segment


def panoptic_segments(
    panoptic: np.ndarray,
    classes: np.ndarray,
    *,
    num_stuff: int,
    image_size: tuple[int, int],
    original_size: tuple[int, int],
    stuff_area_limit: int,
    semantic: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Segment]]:
    """Post-processing of one image (paper, Inference; areas counted after resizing, as published).

    Args:
        panoptic: `[H, W]` 0..S-1 stuff, S + k instance k, -1 void, at network size.
        classes: `[K]` thing class of each instance slot.
        num_stuff: S.
        image_size: height and width of the valid part of `panoptic`.
        original_size: height and width of the image.
        stuff_area_limit: stuff classes with fewer pixels of the original become void.
        semantic: `[H, W]` train id with the highest semantic logit. With it, an instance on at least half of whose
            pixels one stuff class prevails becomes that class (the vote of the published code).

    Returns:
        `[h, w]` int32 id map at the original size with 0 = void, and its segments.
    """
    ids = restore_labels(panoptic, image_size, original_size) + 1
    if semantic is not None:
        ids = _outvote(ids, restore_labels(semantic, image_size, original_size), num_stuff)
    areas = np.bincount(ids.ravel(), minlength=num_stuff + len(classes) + 1)
    small_stuff = np.flatnonzero(areas[1 : num_stuff + 1] < stuff_area_limit) + 1
    ids[np.isin(ids, small_stuff)] = 0
    areas[small_stuff] = 0
    segments = []
    for segment_id in np.flatnonzero(areas[1:]) + 1:
        slot = int(segment_id) - 1 - num_stuff
        category = num_stuff + int(classes[slot]) if slot >= 0 else int(segment_id) - 1
        segments.append(Segment(int(segment_id), category, max(slot, -1)))
    return ids, segments


def restore_labels(labels: np.ndarray, image_size: tuple[int, int], original_size: tuple[int, int]) -> np.ndarray:
    """A map `[H, W]` of the network input, int32, at the original size, `[h, w]`: without padding, nearest pixel."""
    valid = labels[: image_size[0], : image_size[1]].astype(np.int32)
    return cv2.resize(valid, (original_size[1], original_size[0]), interpolation=cv2.INTER_NEAREST)


def _outvote(ids: np.ndarray, semantic: np.ndarray, num_stuff: int) -> np.ndarray:
    """The id map in which instances that the semantic map takes for stuff have that stuff's id."""
    num_ids, num_classes = int(ids.max()) + 1, max(int(semantic.max()) + 1, num_stuff)
    votes = np.bincount(ids.ravel() * num_classes + semantic.ravel(), minlength=num_ids * num_classes)
    votes = votes.reshape(num_ids, num_classes)
    winner = np.argmax(votes, axis=1)
    prevails = 2 * np.max(votes, axis=1) >= np.sum(votes, axis=1)
    segment = np.arange(num_ids)
    return np.where((segment > num_stuff) & (winner < num_stuff) & prevails, winner + 1, segment)[ids].astype(np.int32)

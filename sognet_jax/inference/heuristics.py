"""The merge of instance masks and a semantic map that needs no panoptic head: Kirillov et al. 2019b (host side).

With a label prior (Li et al. 2019b, `label_prior`) the categories of two instances may decide which of them lies on the
other, against the order of their scores; with the occlusion head (Lazarow et al. 2020), what they look like.
"""

import numpy as np

from sognet_jax.scene import Segment

VOID = 0
"""Id of the pixels that belong to no segment."""


def heuristic_segments(
    masks: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    semantic: np.ndarray,
    *,
    num_stuff: int,
    lies_on: np.ndarray | None = None,
    score_threshold: float = 0.6,
    fraction_threshold: float = 0.7,
    stuff_area_limit: int = 4096,
) -> tuple[np.ndarray, list[Segment]]:
    """Panoptic segments of one image from the outputs of a network without a panoptic head.

    Instances are laid down in score order. Each is cut to the pixels that no better one took, and dropped if too few
    are left. The semantic map fills the rest with stuff; where it sees a thing but no instance lies, and where a stuff
    class ends up too small, the result is void. The thresholds are those of the published code.

    Args:
        masks: `[n, h, w]` bool, binary instance masks, which may overlap.
        classes: `[n]` thing class 0..T-1.
        scores: `[n]`; of equal scores the earlier instance goes first.
        semantic: `[h, w]` train id with the highest semantic logit, 0..S+T-1.
        num_stuff: S.
        lies_on: `[n, n]` bool; where it is true at (i, j), i takes pixels that j has. None: nowhere.
        score_threshold: instances with a lower score take no part.
        fraction_threshold: an instance stays if at least this share of its mask is still free.
        stuff_area_limit: stuff classes with fewer pixels, counted after the instances took theirs, become void.

    Returns:
        As `panoptic_segments`: `[h, w]` int32 id map with 0 = void, 1 + c for stuff c and 1 + S + k for instance k of
        the input, and its segments in the order of their ids.

    Raises:
        ValueError: masks, classes, scores and semantic map do not belong together.
    """
    if masks.shape != (len(classes), *semantic.shape) or len(scores) != len(classes):
        raise ValueError(
            f'masks {masks.shape}, classes {np.shape(classes)}, scores {np.shape(scores)} and semantic '
            f'{semantic.shape} do not fit together: expected [n, h, w], [n], [n], [h, w]'
        )
    if lies_on is None:
        lies_on = np.zeros((len(classes), len(classes)), bool)
    ids = _lay_down(masks, scores, num_stuff, lies_on, score_threshold, fraction_threshold)
    rest = (ids == VOID) & (semantic < num_stuff)
    areas = np.bincount(semantic[rest], minlength=num_stuff)
    stays = (areas > 0) & (areas >= stuff_area_limit)
    ids[rest] = np.where(stays, 1 + np.arange(num_stuff), VOID)[semantic[rest]]
    stuff = [Segment(int(category) + 1, int(category), -1) for category in np.flatnonzero(stays)]
    present = np.unique(ids[ids > num_stuff]) - 1 - num_stuff
    things = [Segment(1 + num_stuff + slot, num_stuff + int(classes[slot]), slot) for slot in present.tolist()]
    return ids, stuff + things


def _lay_down(
    masks: np.ndarray,
    scores: np.ndarray,
    num_stuff: int,
    lies_on: np.ndarray,
    score_threshold: float,
    fraction_threshold: float,
) -> np.ndarray:
    """The id map with instances alone."""
    ids = np.full(masks.shape[1:], VOID, np.int32)
    # Each instance sees what the better ones left: the loop over instances is the algorithm.
    for slot in np.argsort(-np.asarray(scores), kind='stable').tolist():
        if not scores[slot] >= score_threshold:
            continue
        mask = masks[slot].astype(bool, copy=False)
        is_free = np.concatenate([[True], np.zeros(num_stuff, bool), lies_on[slot]])  # by id
        free = mask & is_free[ids]
        area, free_area = np.count_nonzero(mask), np.count_nonzero(free)
        # An instance of which nothing is left is no segment, even with a threshold of 0.
        if free_area > 0 and free_area / area >= fraction_threshold:
            ids[free] = 1 + num_stuff + slot
    return ids

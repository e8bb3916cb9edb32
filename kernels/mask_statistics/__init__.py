"""Which instances survive the removal of same-class duplicates, and how much any two of them overlap."""

import jax

from sognet_jax.kernels.mask_statistics import reference


def mask_statistics(
    mask_logits: jax.Array,
    boxes: jax.Array,
    classes: jax.Array,
    valid: jax.Array,
    image_size: jax.Array,
    size: tuple[int, int],
    *,
    num_classes: int,
    threshold: float = 0.3,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Same-class mask removal and pairwise overlaps at full resolution, for one image (paper, Inference).

    A mask is where the pasted logits are above 0. In the order given, which is that of the scores, an instance is
    dropped if its mask is empty or if more than `threshold` of it is covered by the union of the kept masks of its
    class. What is kept stays whole.

    Args:
        mask_logits: `[K, M, M]` mask logits of each instance's own class.
        boxes: `[K, 4]` half-open boxes in image pixels.
        classes: `[K]` thing classes 0..`num_classes` - 1.
        valid: `[K]` bool, real instances, in score order.
        image_size: `[2]` height and width of the valid part of the image; overlaps count inside it only.
        size: height and width of the padded image; removal counts pixels of all of it, as published.
        num_classes: T.
        threshold: the share of an instance that may be covered.
        implementation: `None` (the fastest that can run) or `'xla'`.

    Returns:
        keep: `[K]` bool.
        ratio: `[K, K]` float32, intersection over the smaller of the two masks, 0 on the diagonal and for empty
            masks. Instances that are not valid have ratio 0; those that are dropped have theirs.

    Raises:
        ValueError: the implementation is unknown.
    """
    if implementation not in (None, 'xla'):
        raise ValueError(f"mask_statistics has the implementation 'xla', not {implementation!r}")
    arrays = (mask_logits, boxes, classes, valid, image_size)
    return reference.mask_statistics(*arrays, size=size, num_classes=num_classes, threshold=threshold)

"""What the region proposal network is trained towards: anchor labels and box offsets, for one image."""

import jax
import jax.numpy as jnp

from sognet_jax.ops.boxes import encode, iou
from sognet_jax.ops.sampling import sample

OBJECT_IOU = 0.7
BACKGROUND_IOU = 0.3


def label_anchors(
    anchors: jax.Array,
    boxes: jax.Array,
    valid: jax.Array,
    image_size: jax.Array,
    *,
    batch_size: int,
    priority: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Labels a sample of the anchors as object or background, by the published rules (Ren et al. 2015, Detectron).

    Only anchors that lie inside the image are used. Objects are anchors with an IoU of at least 0.7 with some box and,
    for each box, those that share its highest IoU. Of objects that are more than half of the batch the surplus is
    disabled. The rest of the batch is drawn from the anchors whose IoU with every box is below 0.3, which may turn an
    object of low IoU into background. Two corners of the published rules are kept as they are: if there are not more
    such anchors than wanted, no anchor becomes background; and for a box that touches no anchor inside the image every
    anchor that touches nothing becomes an object.

    Args:
        anchors: `[A, 4]` half-open boxes in image pixels, all levels.
        boxes: `[N, 4]` ground truth boxes.
        valid: `[N]` bool, real instances that are no crowd regions.
        image_size: `[2]` height and width of the valid part of the image.
        batch_size: number of anchors to sample.
        priority: `[A]`; where there is a choice, background takes low values and objects high ones (the published code
            disables surplus objects, so that with index order the last ones stay).

    Returns:
        labels: `[A]` int8, 1 object, 0 background, -1 not sampled.
        targets: `[A, 4]` offsets from anchor to box where the label is 1, else 0.
    """
    inside = _is_inside(anchors, image_size)
    # The barrier makes one array of the overlaps: objects are found by exact equality with a maximum over them.
    overlaps = jax.lax.optimization_barrier(iou(anchors, boxes))
    overlaps = jnp.where(inside[:, None] & valid, overlaps, -1.0)
    highest = jnp.max(overlaps, axis=1, initial=0.0)
    best_of_box = jnp.max(overlaps, axis=0)
    is_best = jnp.any((overlaps == best_of_box) & valid, axis=1)

    objects = inside & (is_best | (highest >= OBJECT_IOU))
    objects = sample(objects, batch_size // 2, -priority)

    candidates = inside & (highest < BACKGROUND_IOU)
    wanted = batch_size - jnp.sum(objects)
    background = sample(candidates, wanted, priority) & (jnp.sum(candidates) > wanted)
    objects &= ~background

    labels = jnp.where(background, 0, jnp.where(objects, 1, -1)).astype(jnp.int8)
    targets = encode(boxes[jnp.argmax(overlaps, axis=1)], anchors)
    return labels, jnp.where(objects[:, None], targets, 0.0)


def _is_inside(anchors: jax.Array, image_size: jax.Array) -> jax.Array:
    """Anchors whose inclusive corners are pixels of the image: x2 - 1 < width (in the published code x2 < width)."""
    height, width = image_size[0], image_size[1]
    x1, y1, x2, y2 = jnp.moveaxis(anchors, -1, 0)
    return (x1 >= 0) & (y1 >= 0) & (x2 - 1 < width) & (y2 - 1 < height)

"""What is annotated of one image, as evaluation takes it."""

from __future__ import annotations

import numpy as np

from sognet_jax.data.examples.transforms import choose_instances, relation_matrices
from sognet_jax.data.records.schema import Record
from sognet_jax.evaluation.tally import ImageTruth


def image_truth(record: Record, max_instances: int) -> ImageTruth:
    """What is annotated of one image, as evaluation takes it.

    Args:
        record: of the image.
        max_instances: instances that a training example has room for; relations are told of them alone.
    """
    related = related_instances(record, max_instances)
    matrices = relation_matrices(record, related, len(related))
    segments = record.segments
    return ImageTruth(
        image_id=record.image_id,
        ids=record.panoptic_ids() if record.has_panoptic else None,
        segments=list(zip(segments.id.tolist(), segments.category.tolist(), segments.crowd.tolist(), strict=True)),
        instances=record.instances if record.has_instances else None,
        related=related,
        own_segments=record.instances.segment[related],
        order=matrices['order'],
        true_order=matrices['true_order'],
        decided=matrices['decided'],
    )


def related_instances(record: Record, max_instances: int) -> np.ndarray:
    """`[n]` the instances that relations are told of: those that have a slot in an example, without crowd."""
    slots = choose_instances(record.instances, max_instances)
    return slots[~record.instances.crowd[slots]]

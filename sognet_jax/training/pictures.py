"""The picture of one evaluated image: segments above, who covers whom below (the paper's Figure 3)."""

from __future__ import annotations

import dataclasses

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.data.schema import Record
from sognet_jax.inference.segments import Segment
from sognet_jax.visualization import PanopticPicture, compose, overlap_graph, overlap_matrix, panoptic_overlay

PANEL = 360
"""Height of each panel in pixels."""

PREDICTED = (214, 69, 65)
ANNOTATED = (38, 110, 180)


@dataclasses.dataclass(frozen=True)
class ImageResult:
    """What evaluation knows of one image.

    Attributes:
        ids, segments: predicted segments at the original size.
        relations, order, true_order: `[n, n]` O, R* and the true order of the n real instances.
        slots: `[n]` their slots in the example.
    """

    ids: np.ndarray
    segments: list[Segment]
    relations: np.ndarray
    order: np.ndarray
    true_order: np.ndarray
    slots: np.ndarray


def evaluation_picture(
    result: ImageResult, record: Record, example: dict[str, np.ndarray], categories: CategorySet
) -> np.ndarray:
    """Image, ground truth and prediction above; the predicted overlap graph, O and R* (or the true order) below."""
    image = record.image()
    blank = PanopticPicture(np.zeros(image.shape[:2], np.int32), {})
    truth = blank
    if record.has_panoptic:
        instance_of = {int(segment): index for index, segment in enumerate(record.instances.segment) if segment}
        known = zip(record.segments.id.tolist(), record.segments.category.tolist(), strict=True)
        truth = PanopticPicture(record.panoptic_ids(), {i: (c, instance_of.get(i, -1)) for i, c in known})
    predicted = PanopticPicture(result.ids, {s.id: (s.category, s.instance) for s in result.segments})
    boxes = example['boxes'][result.slots] / example['scale']
    names = [categories.things[index].name for index in example['classes'][result.slots]]
    side = {'size': PANEL, 'color': ANNOTATED}
    matrices = [('O: row is covered by column', overlap_matrix(result.relations, names, size=PANEL, color=PREDICTED))]
    if result.true_order.any():
        matrices.append(('true order', overlap_matrix(result.true_order, names, **side)))
    else:
        matrices.append(('R* from the annotations', overlap_matrix(result.order, names, **side)))
    graph = overlap_graph(image, boxes, result.relations, height=PANEL)
    return compose(
        [
            [
                ('image', panoptic_overlay(image, blank, categories, height=PANEL, opacity=0.0)),
                ('ground truth', panoptic_overlay(image, truth, categories, height=PANEL)),
                ('prediction', panoptic_overlay(image, predicted, categories, height=PANEL)),
            ],
            [('O of the ground truth instances', graph), *matrices],
        ]
    )

"""The picture of one evaluated image: segments above, who covers whom below (the paper's Figure 3)."""

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.data.records.schema import Record
from sognet_jax.evaluation.tally import ImageResult, ImageTruth
from sognet_jax.pictures.drawing import (
    PanopticPicture,
    compose,
    overlap_graph,
    overlap_matrix,
    panoptic_overlay,
    resized,
)
from sognet_jax.scene import Scene

PANEL = 360
"""Height of each panel in pixels."""

PREDICTED = (214, 69, 65)
ANNOTATED = (38, 110, 180)


def evaluation_picture(record: Record, truth: ImageTruth, result: ImageResult, categories: CategorySet) -> np.ndarray:
    """Image, ground truth and prediction above; below, for a method with relations, who covers whom in it."""
    image = record.image()
    rows = [
        [
            ('image', resized(image, PANEL)),
            ('ground truth', panoptic_overlay(image, annotated_segments(record), categories, height=PANEL)),
            ('prediction', panoptic_overlay(image, predicted_segments(result.scene), categories, height=PANEL)),
        ]
    ]
    if result.true_relations is not None:
        rows.append(_relation_panels(image, record, truth, result.true_relations, categories))
    return compose(rows)


def annotated_segments(record: Record) -> PanopticPicture:
    """The panoptic annotation of an image, for a picture; nothing where there is none."""
    if not record.has_panoptic:
        return PanopticPicture(np.zeros(record.size, np.int32), {})
    instance_of = {int(segment): index for index, segment in enumerate(record.instances.segment) if segment}
    known = zip(record.segments.id.tolist(), record.segments.category.tolist(), strict=True)
    return PanopticPicture(record.panoptic_ids(), {i: (c, instance_of.get(i, -1)) for i, c in known})


def predicted_segments(scene: Scene) -> PanopticPicture:
    """The predicted segments of an image, for a picture."""
    number_of = {segment: number for number, segment in enumerate(scene.instance_ids)}
    return PanopticPicture(scene.panoptic, {i: (category, number_of.get(i, -1)) for i, category in scene.labels})


def _relation_panels(
    image: np.ndarray, record: Record, truth: ImageTruth, relations: np.ndarray, categories: CategorySet
) -> list[tuple[str, np.ndarray]]:
    """The predicted overlap graph, O, and R* or the true order (the paper's Figure 3)."""
    names = [categories.things[index].name for index in record.instances.category[truth.related]]
    title = 'true order' if truth.true_order.any() else 'R* from the annotations'
    known = (title, overlap_matrix(truth.best_order[0], names, size=PANEL, color=ANNOTATED))
    return [
        (
            'O of the ground truth instances',
            overlap_graph(image, record.instances.box[truth.related], relations, height=PANEL),
        ),
        ('O: row is covered by column', overlap_matrix(relations, names, size=PANEL, color=PREDICTED)),
        known,
    ]

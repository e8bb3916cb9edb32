"""From the prediction for one image to its panoptic segments, whatever the method (host side)."""

import dataclasses
import functools
from typing import Self

import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.contract import Example
from sognet_jax.inference.heuristics import heuristic_segments
from sognet_jax.inference.label_prior import read_label_prior
from sognet_jax.inference.pasting import original_boxes, paste_probabilities
from sognet_jax.inference.prediction import Inference, Instances, Prediction
from sognet_jax.inference.segments import panoptic_segments, restore_labels
from sognet_jax.scene import Scene, Segment


@dataclasses.dataclass(frozen=True)
class Frame:
    """Where an image lies in the network input."""

    image_size: tuple[int, int]  # height and width of the valid part of the network input
    original_size: tuple[int, int]  # height and width of the image
    scale: float  # network input over original

    @classmethod
    def of(cls, example: Example) -> Self:
        """That of an example (`data.examples.transforms.make_example`)."""
        image_size, original_size = example['image_size'].tolist(), example['original_size'].tolist()
        return cls(tuple(image_size), tuple(original_size), float(example['scale']))


class Segmenter:
    """Makes panoptic segments at the original size from predictions that are made with the same settings.

    Raises:
        ValueError: the file of the label prior is missing or broken.
    """

    def __init__(self, settings: Inference, categories: CategorySet) -> None:
        self._settings = settings
        self._categories = categories
        needs_prior = settings.method == 'label_prior'
        self._lies_on = read_label_prior(settings.label_prior, categories) if needs_prior else None

    def __call__(self, prediction: Prediction[np.ndarray], frame: Frame) -> Scene:
        """Segments and relations of one image; its prediction has no batch axis."""
        if prediction.panoptic is None:
            ids, segments = self._merge(prediction, frame)
        else:
            ids, segments = panoptic_segments(
                prediction.panoptic,
                prediction.instances.classes,
                num_stuff=self._categories.num_stuff,
                image_size=frame.image_size,
                original_size=frame.original_size,
                stuff_area_limit=self._settings.stuff_area_limit,
                semantic=prediction.semantic if self._settings.vote else None,
            )
        scores = prediction.instances.scores
        found = [one if one.instance < 0 else one._replace(score=float(scores[one.instance])) for one in segments]
        slots = [segment.instance for segment in found if segment.instance >= 0]
        paster = functools.partial(paste_instances, prediction.instances, np.array(slots, int), frame)
        return Scene(self._categories, ids, found, prediction.relations[np.ix_(slots, slots)], paster=paster)

    def _merge(self, prediction: Prediction[np.ndarray], frame: Frame) -> tuple[np.ndarray, list[Segment]]:
        """The id map `[h, w]` int32 with 0 = void, and its segments, as of `panoptic_segments`."""
        settings, instances = self._settings, prediction.instances
        is_certain = instances.valid & (instances.scores >= settings.score_threshold)
        # Detections come in the order of their scores: behind the last certain one there is nothing to paste.
        count = int(np.flatnonzero(is_certain).max(initial=-1)) + 1
        classes, free_fraction, lies_on = instances.classes[:count], settings.free_fraction, None
        if settings.method == 'occlusion_head':
            lies_on, free_fraction = prediction.relations[:count, :count].T > 0, settings.occlusion_free_fraction
        elif self._lies_on is not None:
            lies_on = self._lies_on[np.ix_(classes, classes)]
        return heuristic_segments(
            paste_instances(instances, np.arange(count), frame), classes,
            np.where(is_certain, instances.scores, -1)[:count],
            restore_labels(prediction.semantic, frame.image_size, frame.original_size),
            num_stuff=self._categories.num_stuff, lies_on=lies_on, score_threshold=settings.score_threshold,
            fraction_threshold=free_fraction, stuff_area_limit=settings.stuff_area_limit,
        )  # fmt: skip


def paste_instances(instances: Instances[np.ndarray], slots: np.ndarray, frame: Frame) -> np.ndarray:
    """`[n, h, w]` bool masks of some instances of an image at its original size, as AP counts them."""
    probabilities = 1 / (1 + np.exp(-instances.mask_logits[slots].astype(np.float32)))
    boxes = original_boxes(instances.boxes[slots], frame.scale, inclusive=True)
    return paste_probabilities(probabilities, boxes, frame.original_size)

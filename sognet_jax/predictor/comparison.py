"""One network's detections, fused in every way that there is: what each does with their overlap pixels."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np

from sognet_jax.categories import CategorySet
from sognet_jax.choices import PANOPTIC_HEADS
from sognet_jax.contract import Example
from sognet_jax.data.records.relations import NO_ROW
from sognet_jax.data.records.schema import Record
from sognet_jax.evaluation.overlap_pixels import (
    OverlapPixelCounts,
    OverlapPixels,
    correct_relations,
    find_overlap_pixels,
    match_detections,
)
from sognet_jax.evaluation.tally import ImageTruth, image_truth
from sognet_jax.inference.pasting import encode_masks
from sognet_jax.inference.prediction import Inference, Prediction, paint
from sognet_jax.inference.result import Frame, Segmenter, paste_instances
from sognet_jax.scene import Scene


class FusionComparison:
    """Counts, batch by batch, what every way of `summary.FUSIONS` to fuse detections does with their overlap pixels.

    All get the instances that survive the same-class removal. O is 0 or the true order with the panoptic head of the
    settings. A label prior is compared where the settings name its file, an occlusion head where the network has one.

    Raises:
        ValueError: the method has no relations, or the file of rules is missing or broken.
    """

    def __init__(self, settings: Inference, categories: CategorySet, max_instances: int) -> None:
        if settings.method != 'relations':
            raise ValueError(f"overlap pixels need inference.method = 'relations', not {settings.method!r}")
        self._settings, self._num_stuff, self._max_instances = settings, categories.num_stuff, max_instances
        self._segmenter = Segmenter(settings, categories)
        merges = ('heuristics', 'label_prior') if settings.label_prior else ('heuristics',)
        self._merges = {name: Segmenter(dataclasses.replace(settings, method=name), categories) for name in merges}
        self._by_occlusion = Segmenter(dataclasses.replace(settings, method='occlusion_head'), categories)

    def __call__(
        self,
        on_devices: Prediction[jax.Array],
        prediction: Prediction[np.ndarray],
        batch: Example,
        records: Mapping[int, Record],
    ) -> dict[int, OverlapPixelCounts]:
        """The counts of each image with annotated instances and segments, by its row in the batch.

        Args:
            on_devices: `[devices, B, ...]`, made `with_fusion`.
            prediction: the same on the host, `[devices * B, ...]`.
            batch: the examples.
            records: of the rows that are images.
        """
        images = {row: jax.tree.map(lambda x: x[row], (prediction, batch)) for row in records}  # noqa: B023
        frames = {row: Frame.of(example) for row, (_, example) in images.items()}
        pixels, true_relations = {}, prediction.relations.copy()
        for row, record in records.items():
            if record.has_instances and record.has_panoptic:
                truth, pixels[row], matched = compare_with_truth(
                    images[row][0], frames[row], record, self._max_instances
                )
                true_relations[row] = correct_relations(prediction.relations[row], matched, *truth.best_order)
        painted = self._paint(on_devices, prediction, true_relations)
        counts = {}
        for row, found in pixels.items():
            one, frame = images[row][0], frames[row]
            given = one._replace(panoptic=None)
            scenes = {name: merge(given, frame) for name, merge in self._merges.items()}
            if one.occlusion is not None:
                scenes['occlusion_head'] = self._by_occlusion(given._replace(relations=one.occlusion), frame)
            scenes |= {name: self._segmenter(one._replace(panoptic=maps[row]), frame) for name, maps in painted.items()}
            counts[row] = OverlapPixelCounts()
            counts[row].add(found, {name: scene_slots(scene) for name, scene in scenes.items()})
        return counts

    def _paint(
        self, on_devices: Prediction[jax.Array], prediction: Prediction[np.ndarray], true_relations: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The maps `[B, H, W]` of the ways that have a panoptic head."""
        own = self._settings.panoptic_head
        assert prediction.panoptic is not None
        maps = {f'head_{own}': prediction.panoptic}

        def fuse(relations: np.ndarray, head: int) -> np.ndarray:
            run = _parallel_paint(dataclasses.replace(self._settings, panoptic_head=head), self._num_stuff)
            panoptic = run(on_devices, relations.reshape(on_devices.relations.shape))
            return jax.device_get(panoptic).reshape(prediction.semantic.shape)

        maps |= {f'head_{head}': fuse(prediction.relations, head) for head in PANOPTIC_HEADS if head != own}
        return maps | {'zero': fuse(np.zeros_like(true_relations), own), 'true_order': fuse(true_relations, own)}


def compare_with_truth(
    prediction: Prediction[np.ndarray], frame: Frame, record: Record, max_instances: int
) -> tuple[ImageTruth, OverlapPixels, np.ndarray]:
    """What is true of an image with instances and segments, its overlap pixels, and `[n]` the slot of the detection of
    each of the annotated instances that have relations, `NO_ROW` for none.
    """
    truth, slots = image_truth(record, max_instances), np.flatnonzero(prediction.instances.valid)
    masks, classes = paste_instances(prediction.instances, slots, frame), prediction.instances.classes[slots]
    assert truth.ids is not None
    found = match_detections(record.instances, truth.related, encode_masks(masks), classes)
    pixels = find_overlap_pixels(truth.ids, truth.own_segments, found, masks, classes)
    return truth, dataclasses.replace(pixels, owner=slots[pixels.owner]), np.append(slots, NO_ROW)[found]


@functools.lru_cache(maxsize=2)
def _parallel_paint(settings: Inference, num_stuff: int) -> Callable[[Prediction[jax.Array], np.ndarray], jax.Array]:
    """The compiled `(prediction, O) -> panoptic` on all local devices; one for each panoptic head is kept."""

    def paint_again(prediction: Prediction[jax.Array], relations: jax.Array) -> jax.Array:
        assert prediction.fusion is not None
        size = prediction.semantic.shape[1], prediction.semantic.shape[2]
        return paint(prediction.instances, relations, prediction.fusion, size, settings, num_stuff)

    return jax.pmap(paint_again, devices=jax.local_devices())


def scene_slots(scene: Scene) -> np.ndarray:
    """`[h, w]` the instance slot of each pixel, -1 where there is none."""
    slot_of = np.full(int(scene.panoptic.max()) + 1, -1)
    for segment in scene.found:
        slot_of[segment.id] = segment.instance
    return slot_of[scene.panoptic]

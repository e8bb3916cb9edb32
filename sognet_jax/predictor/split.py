"""Every image of a split through the network: what evaluation counts, saves and draws."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from sognet_jax import hosts
from sognet_jax.categories import CategorySet
from sognet_jax.contract import FILLER, Example
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.pipeline import evaluation_batches
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.evaluation.instance_ap import Detections
from sognet_jax.evaluation.semantic_iou import confusion_matrix
from sognet_jax.evaluation.tally import ImageResult
from sognet_jax.inference.pasting import encode_masks, original_boxes
from sognet_jax.inference.prediction import Inference, Instances, Prediction, predict
from sognet_jax.inference.result import Frame, Segmenter, paste_instances
from sognet_jax.models.sognet import SOGNet
from sognet_jax.predictor.comparison import FusionComparison


def network_results(
    config: ml_collections.ConfigDict,
    categories: CategorySet,
    network: SOGNet,
    variables: Mapping[str, Any],
    source: RecordSource,
    gives_up: Callable[[], bool] = lambda: False,
    *,
    overlap_pixels: bool = False,
) -> Iterator[tuple[int, Record, ImageResult]]:
    """What the network says of every image that is this host's, in the order of the batches; shows progress.

    Args:
        network, variables: of `predictor.restore_network`.
        gives_up: is asked before every batch whether to stop there.
        overlap_pixels: count what each way to fuse the detections does there.

    Yields:
        The image's place in `source`, its record, and the result.

    Raises:
        ValueError: the config's file of rules is missing or broken; `overlap_pixels` of a method without relations.
    """
    settings = Inference(**config.inference)
    segmenter = Segmenter(settings, categories)
    compare = FusionComparison(settings, categories, config.data.max_instances) if overlap_pixels else None
    inclusive_boxes = config.data.inclusive_boxes
    run = parallel_inference(network, settings, with_fusion=overlap_pixels)
    variables = hosts.on_its_devices(variables)
    for batch in split_batches(config, source, gives_up):
        on_devices, relations = run(variables, to_devices(batch))
        results = jax.device_get((on_devices._replace(fusion=None), relations))
        prediction, relations = reshape_leading(results, (-1,), axes=2)
        rows = np.flatnonzero(batch['record_index'] != FILLER)
        records = {row: source[int(batch['record_index'][row])] for row in rows.tolist()}
        counts = compare(on_devices, prediction, batch, records) if compare else {}
        for row, record in records.items():
            example, predicted, related = jax.tree.map(lambda x: x[row], (batch, prediction, relations))  # noqa: B023
            result = image_result(segmenter, example, predicted, related, categories, inclusive_boxes)
            yield int(example['record_index']), record, dataclasses.replace(result, overlap_pixels=counts.get(row))


def split_batches(
    config: ml_collections.ConfigDict, source: RecordSource, gives_up: Callable[[], bool], *, pixels: bool = True
) -> Iterator[Example]:
    """The batches of this host's images, for all of its devices; shows progress, on the first host.

    Args:
        source: the images, of all hosts.
        gives_up: is asked before every batch whether to stop there.
        pixels: with images and label maps. Without, it is a matter of seconds that hardly needs a bar.
    """
    batches = evaluation_batches(
        source, example_settings(config), jax.local_device_count() * config.eval_batch_size,
        host=jax.process_index(), num_hosts=hosts.count(), workers=config.data.workers, pixels=pixels,
    )  # fmt: skip
    bar = tqdm(
        total=-(-len(source) // hosts.count()), desc='evaluate', unit='image', delay=0 if pixels else 2,
        disable=not hosts.is_first(),
    )  # fmt: skip
    with contextlib.closing(batches), bar:
        for batch in batches:
            if gives_up():
                return
            yield batch
            bar.update(np.count_nonzero(batch['record_index'] != FILLER))


def to_devices(batch: Example) -> Example:
    """A batch with the axis of this host's devices in front."""
    return reshape_leading(batch, (jax.local_device_count(), -1))


@functools.lru_cache(maxsize=1)
def parallel_inference(
    network: SOGNet, settings: Inference, *, with_fusion: bool = False
) -> Callable[[Mapping[str, Any], Example], tuple[Prediction[jax.Array], jax.Array | None]]:
    """The compiled function `(variables, batch) -> (prediction, O of the ground truth instances)` on all local devices.

    Batches and results are `[devices, B, ...]`; a method without relations has no O. The function is kept, so that the
    next evaluation compiles nothing. Hosts do not wait for each other in it.
    """

    def infer(network: SOGNet, batch: dict[str, jax.Array]) -> tuple[Prediction[jax.Array], jax.Array | None]:
        image, image_size = batch['image'], batch['image_size']
        prediction = predict(network, image, image_size, settings, with_detections=True, with_fusion=with_fusion)
        return prediction, network.relate_annotated(batch).matrix if settings.method == 'relations' else None

    return jax.pmap(nn.apply(infer, network), axis_name='device', in_axes=(None, 0), devices=jax.local_devices())


def reshape_leading(tree: Any, shape: tuple[int, ...], axes: int = 1) -> Any:
    """The first `axes` axes of every array get another shape."""
    return jax.tree.map(lambda value: value.reshape(*shape, *value.shape[axes:]), tree)


def image_result(
    segmenter: Segmenter,
    example: Example,
    prediction: Prediction[np.ndarray],
    relations: np.ndarray | None,
    categories: CategorySet,
    inclusive_boxes: bool,
) -> ImageResult:
    """What the network says of one image, as evaluation takes it.

    Args:
        example: of `evaluation_batches`, without the batch axis.
        prediction: of the image, likewise, with detections.
        relations: `[N, N]` O of the example's instances; None for a method without relations.
        inclusive_boxes: how boxes are scaled, see `inference.pasting.original_boxes`.

    Raises:
        ValueError: the prediction has no detections.
    """
    if prediction.detections is None:
        raise ValueError('average precision needs a prediction that is made `with_detections`')
    frame = Frame.of(example)
    real = np.flatnonzero(example['valid'] & ~example['crowd'])
    confusion = None
    if example['has_panoptic']:
        confusion = confusion_matrix(example['semantic'], prediction.semantic, categories.num_classes)
    return ImageResult(
        scene=segmenter(prediction, frame),
        true_relations=None if relations is None else relations[np.ix_(real, real)],
        detections=image_detections(prediction.detections, frame, inclusive_boxes),
        confusion=confusion,
    )


def image_detections(instances: Instances[np.ndarray], frame: Frame, inclusive_boxes: bool) -> Detections:
    """The detections of one image with boxes and masks of its original size."""
    found = np.flatnonzero(instances.valid)
    return Detections(
        category=instances.classes[found],
        score=instances.scores[found],
        box=original_boxes(instances.boxes[found], frame.scale, inclusive=inclusive_boxes),
        rles=encode_masks(paste_instances(instances, found, frame)),
    )

"""What lies between the learned O and a perfect map: one input after the other is replaced by the annotation's.

    python -m benchmarks.tables.gap --workdir=runs/tables --results=benchmarks/results/tables

For every SOGNet of the tables that is in the folder of trained networks. Only what is said of detections that match an
annotated instance is replaced; the pixels that count are those of the detections as they are, for all rows.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.tables.markdown import markdown_table, mean_and_range
from benchmarks.tables.rows import NETWORKS, WORLDS, network_config
from sognet_jax.category_files import category_set
from sognet_jax.contract import FILLER, Example
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.data.configured import prepare_split
from sognet_jax.data.records.relations import NO_ROW
from sognet_jax.data.records.schema import Record
from sognet_jax.evaluation.overlap_pixels import OverlapPixelCounts, OverlapPixels, correct_relations
from sognet_jax.evaluation.summary import Metrics
from sognet_jax.evaluation.tally import ImageResult, ImageTruth, Tally
from sognet_jax.files import write_whole
from sognet_jax.inference.prediction import Inference, Instances, Prediction, paint, predict
from sognet_jax.inference.result import Frame, Segmenter
from sognet_jax.json_files import read_json
from sognet_jax.models.sognet import SOGNet
from sognet_jax.ops.masks import crop_resize_masks
from sognet_jax.predictor import restore_network
from sognet_jax.predictor.comparison import compare_with_truth, scene_slots
from sognet_jax.predictor.split import image_detections, split_batches

SURE = 20.0
"""Logit of an annotated mask where it is whole."""

ROWS = {
    'found': 'as found',
    'boxes': 'O of annotated boxes',
    'masks': 'O of annotated masks',
    'both': 'O of annotated boxes and masks',
    'order': 'true order in place of O',
    'painted': 'true order, annotated masks in the panoptic head',
}
METRICS = ('overlap_pixels/fused', 'overlap_pixels_same_class/fused', 'PQ')


@dataclasses.dataclass(frozen=True)
class Gap:
    """Metrics by row, of one network."""

    world: str
    seed: int
    rows: dict[str, Metrics]


def main() -> None:
    """Runs the command."""
    choose_eigen()
    parser = argparse.ArgumentParser(prog='python -m benchmarks.tables.gap', description=__doc__)
    parser.add_argument('--workdir', type=pathlib.Path, default='runs/tables', help='folder of the trained networks')
    parser.add_argument(
        '--results', type=pathlib.Path, default='benchmarks/results/tables', help='folder for the figures'
    )
    options = parser.parse_args()
    for network in NETWORKS:
        for folder in sorted(options.workdir.glob(f'{network.name}_*')) if network.variant == '' else ():
            found = re.fullmatch(rf'{network.name}_(\d+)', folder.name)
            file = options.results / f'gap_{network.world}_{found[1]}.json' if found else None
            if found and file and not file.is_file():
                rows = measure(network_config(network, int(found[1])), folder)
                write_whole(file, json.dumps(rows, indent=1) + '\n')
                print(folder.name, rows, flush=True)


def read_gaps(folder: pathlib.Path) -> list[Gap]:
    """Those that have been measured."""
    found = [(world, file) for world in WORLDS for file in sorted(folder.glob(f'gap_{world}_*.json'))]
    return [Gap(world, int(file.stem.rsplit('_', 1)[1]), read_json(file, dict[str, Metrics])) for world, file in found]


def gap_table(gaps: Sequence[Gap]) -> list[str]:
    """Sections of the page of results."""
    columns = [(world, metric) for world in WORLDS for metric in METRICS]
    names = {'overlap_pixels/fused': '', 'overlap_pixels_same_class/fused': ', one class', 'PQ': ', PQ'}
    header = [world + names[metric] for world, metric in columns]
    rows = {
        title: [mean_and_range([gap.rows[row][of] for gap in gaps if gap.world == world]) for world, of in columns]
        for row, title in ROWS.items()
    }
    seeds = ', '.join(f'{world}: {sum(gap.world == world for gap in gaps)} seeds' for world in WORLDS)
    return [
        '## What closes the gap',
        "Overlap pixels and PQ of SOGNet where one input after the other is the annotation's, for detections that "
        f'match one ({seeds}). Without a match, and where the order is not known, all is as found.',
        markdown_table(header, rows),
    ]


def measure(config: ml_collections.ConfigDict, folder: pathlib.Path) -> dict[str, Metrics]:
    """The metrics of every row, of the network in a run's folder."""
    categories, settings = category_set(config.categories), Inference(**config.inference)
    network, variables = restore_network(config, categories, folder)
    run = functools.partial(_fuse_all, jax.jit(nn.apply(_predict(settings), network)), _fusers(network, settings))
    segment = Segmenter(settings, categories)
    tallies = {name: Tally(categories) for name in ROWS}
    source = prepare_split(config, config.data.eval_split)
    for batch in split_batches(config, source, lambda: False):
        real = np.flatnonzero(batch['record_index'] != FILLER)
        records = {row: source[int(batch['record_index'][row])] for row in real.tolist()}
        images, predictions = run(variables, batch, records, config.data.max_instances)
        for row, (truth, pixels) in images.items():
            example = {name: value[row] for name, value in batch.items()}
            for name, prediction in predictions.items():
                one, frame = jax.tree.map(lambda x: x[row], prediction), Frame.of(example)  # noqa: B023
                scene, counts = segment(one, frame), OverlapPixelCounts()
                counts.add(pixels, {'fused': scene_slots(scene)})
                detections = image_detections(one.instances, frame, inclusive_boxes=False)
                tallies[name].add(truth, ImageResult(scene, None, detections, None, counts))
    metrics = {name: tally.metrics() for name, tally in tallies.items()}
    return {name: {metric: found[metric] for metric in METRICS} for name, found in metrics.items()}


def _predict(settings: Inference) -> Callable[..., Any]:
    return lambda network, *inputs: predict(network, *inputs, settings, with_fusion=True)


def _fusers(network: SOGNet, settings: Inference) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The compiled relation head and panoptic head."""

    def relate(network: SOGNet, instances: Instances, masks: jax.Array, partners: jax.Array) -> jax.Array:
        return network.relate(instances.classes, instances.boxes, masks, partners > 0)

    def fuse(prediction: Prediction, relations: jax.Array) -> jax.Array:
        size = prediction.semantic.shape[1:]
        return paint(prediction.instances, relations, prediction.fusion, size, settings, network.num_stuff)

    return jax.jit(nn.apply(relate, network)), jax.jit(fuse)


def _fuse_all(
    predict: Callable[..., Any],
    fusers: tuple[Callable[..., Any], Callable[..., Any]],
    variables: Any,
    batch: Example,
    records: dict[int, Record],
    max_instances: int,
) -> tuple[dict[int, tuple[ImageTruth, OverlapPixels]], dict[str, Prediction[np.ndarray]]]:
    """What is true of each image and its overlap pixels, and the predictions of every row."""
    relate, fuse = fusers
    found = predict(variables, batch['image'], batch['image_size'])
    host = jax.device_get(found._replace(fusion=None))
    images, rows, order = {}, np.full(host.instances.classes.shape, NO_ROW), host.relations.copy()
    for image, record in records.items():
        one = {name: value[image] for name, value in batch.items()}
        predicted = jax.tree.map(lambda x: x[image], host)  # noqa: B023
        truth, pixels, matched = compare_with_truth(predicted, Frame.of(one), record, max_instances)
        images[image] = truth, pixels
        rows[image, matched[matched != NO_ROW]] = np.flatnonzero(matched != NO_ROW)
        order[image] = correct_relations(host.relations[image], matched, *truth.best_order)
    annotated, masks = _annotated(host.instances, batch, rows)
    own = nn.sigmoid(host.instances.mask_logits)
    see = jax.vmap(functools.partial(crop_resize_masks, size=own.shape[-1]))
    partners = found.fusion.partners
    related = {
        'boxes': relate(variables, annotated, see(own, host.instances.boxes, annotated.boxes), partners),
        'masks': relate(variables, host.instances, see(masks, annotated.boxes, host.instances.boxes), partners),
        'both': relate(variables, annotated, see(masks, annotated.boxes, annotated.boxes), partners),
        'order': jnp.asarray(order),
    }
    fused = {'found': found} | {
        name: found._replace(relations=relations, panoptic=fuse(found, relations))
        for name, relations in related.items()
    }
    logits = SURE * (2 * see(masks, annotated.boxes, annotated.boxes) - 1)
    logits = jnp.where((rows != NO_ROW)[..., None, None], logits, host.instances.mask_logits)
    painted = found._replace(instances=annotated._replace(mask_logits=logits), relations=related['order'])
    fused['painted'] = painted._replace(panoptic=fuse(painted, related['order']))
    return images, {name: jax.device_get(one._replace(fusion=None)) for name, one in fused.items()}


def _annotated(
    instances: Instances[np.ndarray], batch: Example, rows: np.ndarray
) -> tuple[Instances[np.ndarray], np.ndarray]:
    """The instances with annotated boxes, and masks in the frames of these boxes, where a row says of which one."""
    image, known = np.arange(len(rows))[:, None], rows != NO_ROW
    boxes = np.where(known[..., None], batch['boxes'][image, rows], instances.boxes)
    masks = batch['masks'][image, rows].astype(np.float32)
    predicted = jax.image.resize(nn.sigmoid(instances.mask_logits), masks.shape, 'nearest')
    return instances._replace(boxes=boxes), np.where(known[..., None, None], masks, predicted)


if __name__ == '__main__':
    main()

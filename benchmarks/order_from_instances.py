"""The relation head trained on the drawn shapes as instances with an order, no panoptic map and no detector.

    python -m benchmarks.order_from_instances [--steps=300] [--full=RUN]

The scenes are written in SynTable's layout, prepared, trained on (`train.only='relation'`, the rest as in
`configs/shapes.py`), and tested on the scenes that `configs/shapes.py` is tested on. `--full` is a run of the whole
network, which learned from panoptic maps; its relation head is evaluated on the same scenes.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

import ml_collections
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from sognet_jax.categories import SHAPES
from sognet_jax.category_files import categories_to_json, category_set
from sognet_jax.configs import shapes
from sognet_jax.data.configured import prepare_split
from sognet_jax.data.records.relations import map_rles, rle_as_text
from sognet_jax.data.records.schema import Record
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.data.sources.shapes.composition import SceneSettings
from sognet_jax.evaluation.order_rules import rule_metrics
from sognet_jax.predictor import restore_network
from sognet_jax.predictor.relations import relation_tally
from sognet_jax.training.loop import train

SPLITS = ('train', 'validation')


def write_scenes(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """The scenes of the shapes' config in SynTable's layout: `train.json` and `validation.json`."""
    scene = SceneSettings(size=tuple(config.data.image_size), max_instances=config.data.max_instances)
    for kind in ('rgb', 'occlusion_order'):
        (folder / kind).mkdir()
    things = [entry for entry in categories_to_json(SHAPES) if entry['isthing']]
    for number, (split, count) in enumerate(
        zip(SPLITS, (config.data.num_train, config.data.num_validation), strict=True)
    ):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in tqdm(range(count), split):
            record = draw(ShapesSettings(scene, seed=config.data.seed), number, index)
            name, matrix = f'rgb/{split}_{index}.png', f'occlusion_order/{split}_{index}.npy'
            (folder / name).write_bytes(record.image_bytes)
            np.save(folder / matrix, _over(record))
            size = {'height': record.size[0], 'width': record.size[1]}
            images.append({'id': index, 'file_name': name, 'occlusion_order_file_name': matrix} | size)
            annotations += _annotations(record, index, len(annotations))
        content = {'images': images, 'annotations': annotations, 'categories': things}
        (folder / f'{split}.json').writerle_as_text(json.dumps(content))


def _over(record: Record) -> np.ndarray:
    """SynTable's matrix: the row's instance lies over the column's."""
    pairs = record.pairs
    over = np.zeros((len(record.instances.id),) * 2)
    over[pairs.second[pairs.truly_covered == 0], pairs.first[pairs.truly_covered == 0]] = 1
    over[pairs.first[pairs.truly_covered == 1], pairs.second[pairs.truly_covered == 1]] = 1
    return over


def _annotations(record: Record, image: int, before: int) -> list[dict[str, Any]]:
    segments = map_rles(record.segment_indices(), len(record.segments.id))
    visible = dict(zip(record.segments.id.tolist(), segments, strict=True))
    nothing = coco_mask.encode(np.zeros(record.size, np.uint8, order='F'))
    return [
        {
            'id': before + row + 1,
            'image_id': image,
            'category_id': SHAPES.things[category].id,
            'segmentation': rle_as_text(rle),
            'visible_mask': rle_as_text(visible.get(int(record.instances.segment[row]), nothing)),
        }
        for row, (category, rle) in enumerate(zip(record.instances.category, record.instances.rles, strict=True))
    ]


def _accuracy(config: ml_collections.ConfigDict, checkpoint: str) -> float:
    network, variables = restore_network(config, category_set('shapes'), checkpoint, relation_head_alone=True)
    source = prepare_split(config, config.data.eval_split)
    return relation_tally(config, network, variables, source).metrics()['order_accuracy']


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--full')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        config = shapes.get_config()
        write_scenes(folder, config)
        config.data.update(name='syntable', source=temporary, dir=f'{temporary}/data')
        steps = options.steps
        config.train.update(only='relation', steps=steps, eval_every=0, checkpoint_every=steps, log_every=50)
        config.optimizer.drops = (int(0.7 * steps), int(0.9 * steps))
        rules = rule_metrics(*(prepare_split(config, split) for split in SPLITS))
        start, cpu = time.perf_counter(), time.process_time()
        train(config, f'{temporary}/run', say=print, evaluate=None)
        seconds = f'{time.perf_counter() - start:.0f} s ({time.process_time() - cpu:.0f} s of processors)'
        print(
            f'instances alone, {steps} steps in {seconds}: order accuracy {_accuracy(config, f"{temporary}/run"):.1f}'
        )
        if options.full:
            print(f'whole network, from panoptic maps: {_accuracy(config, options.full):.1f}')
        print({name: round(value, 1) for name, value in rules.items()})


if __name__ == '__main__':
    main()

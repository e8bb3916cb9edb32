"""Milliseconds an image for the order of 30 instances of another segmenter: `python -m benchmarks.order_instances`.

From COCO's run lengths of 640 x 480 to O, with the relation head of `configs/coco_r50.py`; no image is opened.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import jax
import numpy as np
from pycocotools import mask as coco_mask

from benchmarks.timing import Run, measure
from sognet_jax.categories import COCO
from sognet_jax.configs import coco_r50
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.models.sognet import build_network, initialize_relation_head
from sognet_jax.order.rules import pairs_taking_part
from sognet_jax.predictor.relations import relate_instances

SIZE, INSTANCES, REPEATS = (480, 640), 30, 20


def ellipses(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Masks of instances anywhere in an image, each up to a third of its sides."""
    rles = []
    for _ in range(INSTANCES):
        centre, axes = rng.integers(0, SIZE[::-1]), rng.integers(10, 110, 2)
        mask = np.zeros(SIZE, np.uint8)
        cv2.ellipse(mask, centre.tolist(), axes.tolist(), float(rng.integers(180)), 0, 360, 1, -1)
        rles.append(coco_mask.encode(np.asfortranarray(mask)))
    return rles


def main() -> None:
    """Runs the benchmark."""
    choose_eigen()
    network = build_network(coco_r50.get_config().model, COCO)
    variables = jax.device_put(initialize_relation_head(network, 0))
    rles, names = ellipses(np.random.default_rng(0)), ['person', 'chair', 'cup'] * (INSTANCES // 3)
    pairs = pairs_taking_part('related', rles, rles)
    relate = functools.partial(relate_instances, network, variables, COCO, rles, names, pairs)
    calls = {
        f'pairs: {choice}': functools.partial(pairs_taking_part, choice, rles, rles)
        for choice in ('related', 'touching')
    } | {'boxes, masks, relation head': relate}
    runs = [Run(title, call, lambda result: result) for title, call in calls.items()]
    for run, taken in zip(runs, measure(runs, REPEATS, 1), strict=True):
        wall, processor = 1000 * taken.seconds, 1000 * taken.processor_seconds
        print(f'{run.implementation:<30}{wall:7.1f} ms, of a processor {processor:6.1f} ms')


if __name__ == '__main__':
    main()

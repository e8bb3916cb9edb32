"""Milliseconds an image for the order of 30 instances of another segmenter: `python -m benchmarks.order_instances`.

From COCO's run lengths of 640 x 480 to O, with the relation head of `configs/coco_r50.py`; no image is opened.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import cv2
import jax
import numpy as np
from pycocotools import mask as coco_mask

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


def milliseconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Median of the wall, and mean of the processor's time."""
    run()
    walls, before = [], time.process_time()
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        walls.append(time.perf_counter() - start)
    return 1000 * float(np.median(walls)), 1000 * (time.process_time() - before) / REPEATS


def main() -> None:
    """Runs the benchmark."""
    choose_eigen()
    network = build_network(coco_r50.get_config().model, COCO)
    variables = jax.device_put(initialize_relation_head(network, 0))
    rles, names = ellipses(np.random.default_rng(0)), ['person', 'chair', 'cup'] * (INSTANCES // 3)
    pairs = pairs_taking_part('related', rles, rles)
    relate = functools.partial(relate_instances, network, variables, COCO, rles, names)
    runs = {
        f'pairs: {choice}': functools.partial(pairs_taking_part, choice, rles, rles)
        for choice in ('related', 'touching')
    }
    for title, run in (runs | {'boxes, masks, relation head': functools.partial(relate, pairs)}).items():
        print('{:<30}{:7.1f} ms, of a processor {:6.1f} ms'.format(title, *milliseconds(run)))


if __name__ == '__main__':
    main()

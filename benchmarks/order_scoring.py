"""How long scores of 10,000 images of 20 instances take, InstaOrder's layout: `python -m benchmarks.order_scoring`."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import tempfile
import time

import numpy as np

from sognet_jax.programs.order import main as order_program

IMAGES, INSTANCES = 10_000, 20
SHARE = 0.1
"""Of ordered pairs that cover, truly and in the prediction."""


def write_files(folder: pathlib.Path) -> None:
    """A truth of random pairs, depths of all pairs, and a prediction of other pairs."""
    rng = np.random.default_rng(0)
    pairs = [(i, j) for i in range(INSTANCES) for j in range(i + 1, INSTANCES)]
    truth, predicted = [], []
    for image in range(1, IMAGES + 1):
        ids = list(range(100 * image, 100 * image + INSTANCES))
        true, said = (np.argwhere(rng.uniform(size=(INSTANCES, INSTANCES)) < SHARE) for _ in range(2))
        occlusion = [{'order': f'{i}<{j}', 'count': 2} for i, j in true.tolist() if i != j]
        depth = [{'order': f'{i}{"<=>"[i % 2]}{j}', 'count': 2 + i % 3, 'overlap': j % 2 == 0} for i, j in pairs]
        truth.append({'image_id': image, 'instance_ids': ids, 'occlusion': occlusion, 'depth': depth})
        overlaps = [{'covering': ids[i], 'covered': ids[j], 'strength': 0.9} for i, j in said.tolist() if i != j]
        predicted.append({'file_name': f'{image:012d}.jpg', 'overlaps': overlaps})
    (folder / 'InstaOrder_val2017.json').write_text(json.dumps({'annotations': truth}))
    (folder / 'order.json').write_text(json.dumps({'images': predicted}))


def main() -> None:
    """Runs the benchmark."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write_files(folder)
        start, cpu = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            status = order_program(
                ['score', '--format=instaorder', f'--source={folder}', f'--predicted={folder / "order.json"}']
            )
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        print(
            f'{IMAGES:,} images of {INSTANCES} instances: {wall:.1f} s ({used:.1f} s of a processor), status {status}'
        )


if __name__ == '__main__':
    main()

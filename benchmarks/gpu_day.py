"""Everything that only a GPU can tell, in under nine minutes. A part that fails stops no other.

    make gpu-bench                                              # into benchmarks/results/gpu_DATE/
    python -m benchmarks.gpu_day --output=/tmp/try --tiny       # the same parts at tiny shapes, on any device

The parts are programs of their own: `kernel_check` compares every kernel with its reference and with itself, `kernels`
times them against torchvision and the plain formulations, `step` times inference and training of `coco_r50` in
bfloat16 against torchvision's Mask R-CNN. What each prints is kept beside its JSON; `summary.md` is the table of all.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
from typing import Any

from absl import app, flags

OUTPUT = flags.DEFINE_string('output', None, 'Folder for the results.', required=True)
TINY = flags.DEFINE_bool('tiny', False, 'Small shapes, for a try without a GPU.')
SECONDS = flags.DEFINE_integer('seconds', 530, 'All parts together end by then.')

COCO = ('--config=configs/coco_r50.py', '--config.batch_size=1', '--config.model.dtype=bfloat16')
PARTS: dict[str, tuple[str, ...]] = {
    'kernel_check': ('benchmarks.kernel_check',),
    'kernels_deform_conv': ('benchmarks.kernels', '--only=deform_conv/200x336', '--rounds=3'),
    'kernels_roi_align': ('benchmarks.kernels', '--only=roi_align/512', '--rounds=3'),
    'kernels_fusion': ('benchmarks.kernels', '--only=panoptic_fusion', '--rounds=3'),
    'inference': ('benchmarks.step', *COCO, '--programs=inference'),
    'training_step': ('benchmarks.step', *COCO, '--programs=training step'),
    'kernels_small_levels': ('benchmarks.kernels', '--only=deform_conv/50x84', '--rounds=3'),
}
"""What is run, the most important first."""

SMALL = ('--config=tests/support/tiny.py', '--config.batch_size=1')
TINY_PARTS: dict[str, tuple[str, ...]] = {
    'kernel_check': ('benchmarks.kernel_check', '--image=32,64', '--channels=16', '--instances=4'),
    'kernels': ('benchmarks.kernels', '--image=64,96', '--rounds=1', '--only=/float32'),
    'inference': ('benchmarks.step', *SMALL, '--programs=inference', '--rounds=1'),
    'training_step': ('benchmarks.step', *SMALL, '--programs=training step', '--rounds=1'),
}


def main(arguments: list[str]) -> None:
    """Runs the parts, and ends with status 1 if one of them has failed."""
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    folder = pathlib.Path(OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + SECONDS.value
    outcomes = {}
    for name, command in (TINY_PARTS if TINY.value else PARTS).items():
        outcomes[name] = run_part(folder, name, command, end - time.monotonic())
        print(f'{name}: {outcomes[name]}', flush=True)
        (folder / 'summary.md').write_text(summary(folder, outcomes))
    sys.exit(int(any(outcome != 'done' for outcome in outcomes.values())))


def run_part(folder: pathlib.Path, name: str, command: tuple[str, ...], seconds: float) -> str:
    """Runs a part; says `done`, or in a few words what went wrong."""
    if seconds < 1:
        return 'no time was left'
    module, *options = command
    whole = [sys.executable, '-m', module, *options, f'--json={folder / name}.json']
    with (folder / f'{name}.txt').open('w') as file:
        try:
            status = subprocess.run(
                whole, stdout=file, stderr=subprocess.STDOUT, timeout=seconds, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return 'took too long'
    return 'done' if status == 0 else f'failed with status {status}: {folder / name}.txt'


def summary(folder: pathlib.Path, outcomes: dict[str, str]) -> str:
    """What the parts found, as Markdown."""
    lines = ['| part | outcome |', '| --- | --- |', *(f'| {name} | {outcome} |' for name, outcome in outcomes.items())]
    for name in outcomes:
        file = folder / f'{name}.json'
        if file.is_file():
            lines += ['', f'## {name}', '', *_table(json.loads(file.read_text()))]
    return '\n'.join(lines) + '\n'


def _table(result: dict[str, Any] | list[dict[str, Any]]) -> list[str]:
    rows = result if isinstance(result, list) else result.get('rows') or result.get('programs') or []
    if not rows:
        return ['nothing']
    names = list(dict.fromkeys(name for row in rows for name in row))
    cell = lambda value: f'{value:.4g}' if isinstance(value, float) else str(value)  # noqa: E731
    head = ['' if isinstance(result, list) else ', '.join(f'{k} {v}' for k, v in result.items() if v is not rows), '']
    table = [f'| {" | ".join(names)} |', '| --- ' * len(names) + '|']
    return [*head, *table, *(f'| {" | ".join(cell(row.get(name, "")) for name in names)} |' for row in rows)]


if __name__ == '__main__':
    app.run(main)

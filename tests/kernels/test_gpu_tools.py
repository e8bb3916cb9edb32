"""What benchmarks say of GPUs without having one."""

import subprocess
import sys

import pytest

from benchmarks.gpu_model import H100, Layer, columns_and_product, forward, input_gradients, weight_gradient
from tests.support.paths import ROOT

P2 = Layer(200 * 336)


@pytest.mark.parametrize(
    ('work', 'least', 'most'),
    [
        (forward(P2), 0.5, 0.7),
        (input_gradients(P2), 1.2, 2.0),
        (weight_gradient(P2), 0.55, 0.7),
        (columns_and_product(P2), 0.5, 0.5),
    ],
)
def test_the_model_gives_the_figures_that_were_computed_of_the_first_kernels(work, least, most):
    """By another hand, from machine code, to one digit."""
    low, high = (1e3 * seconds for seconds in work.seconds(H100))
    assert low < most and high > least and low > 0.4 * least and high < 1.25 * most


def test_the_model_counts_what_the_compiler_was_asked_about():
    assert forward(P2).cache == pytest.approx(2.48e9, rel=0.01) and forward(P2, tile=128).cache == pytest.approx(
        1.86e9, rel=0.01
    )
    assert input_gradients(P2).atomics == pytest.approx(155e6, rel=0.01)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_day_with_a_gpu_works_at_tiny_shapes(tmp_path):
    command = [sys.executable, '-m', 'benchmarks.gpu_day', f'--output={tmp_path}', '--tiny']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout
    summary = (tmp_path / 'summary.md').read_text()
    assert summary.count('| done |') == 4 and 'WRONG' not in (tmp_path / 'kernel_check.txt').read_text()


def test_a_part_that_fails_stops_no_other_and_is_said(tmp_path):
    code = (
        'import sys; from benchmarks import gpu_day; from absl import app\n'
        "gpu_day.TINY_PARTS = {'first': ('no.such.module',), 'second': ('benchmarks.gpu_model',)}\n"
        'app.run(gpu_day.main)'
    )
    command = [sys.executable, '-c', code, f'--output={tmp_path}', '--tiny']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert 'first: failed with status 1' in done.stdout and 'second: done' in done.stdout
    assert '| second | done |' in (tmp_path / 'summary.md').read_text()

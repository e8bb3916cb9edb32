import jax
import pytest

from sognet_jax.kernels.choice import INTERPRETED, TRITON, XLA, choose_implementation

ALL = (XLA, TRITON, INTERPRETED)


def choose(requested, **options):
    return choose_implementation('pool', requested, ALL, **options)


def test_on_a_cpu_the_reference_runs_unless_another_one_is_named():
    assert choose(None) == XLA
    assert choose(None, default='matmul') == 'matmul'
    assert choose(INTERPRETED) == INTERPRETED


def test_on_a_gpu_the_kernel_runs_where_it_supports_the_arguments(monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert choose(None) == TRITON
    assert choose(None, refusal='int8') == XLA
    assert choose_implementation('pool', None, (XLA,)) == XLA


@pytest.mark.parametrize(
    ('requested', 'options', 'message'),
    [
        ('magic', {}, "pool has the implementations .*, not 'magic'"),
        (TRITON, {}, "pool: implementation 'triton' needs a GPU; JAX runs on cpu here"),
        (INTERPRETED, {'refusal': 'x is int8'}, 'cannot run: x is int8'),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(requested, options, message):
    with pytest.raises(ValueError, match=message):
        choose(requested, **options)

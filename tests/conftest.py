"""What all tests share: programs compile quickly, and what one test has compiled is not compiled again by another.

Compiling is most of the tests' time, so XLA's code for the CPU is left unoptimised by LLVM, and its older way to write
loops is used, which compiles three times faster. What users get is tested with `XLA_FLAGS= make test`, which takes
longer.
"""

import os
import pathlib
import shutil
import tempfile

import jax
import pytest

pytest.register_assert_rewrite('tests.support')

CACHE = 'JAX_COMPILATION_CACHE_DIR'
MOST_MAPS = 20_000
FAST_COMPILATION = (
    '--xla_backend_optimization_level=0 --xla_cpu_opt_preset=FAST_COMPILE '
    '--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters'
)


def pytest_configure(config):
    """XLA's flags and a folder for compiled programs that lasts as long as this run; other processes inherit both."""
    os.environ.setdefault('XLA_FLAGS', FAST_COMPILATION)
    if CACHE not in os.environ:
        config.compiled_programs = os.environ[CACHE] = tempfile.mkdtemp(prefix='compiled-')
        jax.config.update('jax_compilation_cache_dir', config.compiled_programs)  # it was imported before


def pytest_unconfigure(config):
    if hasattr(config, 'compiled_programs'):
        shutil.rmtree(config.compiled_programs, ignore_errors=True)
        del os.environ[CACHE]


@pytest.fixture(autouse=True, scope='module')
def forget_programs():
    """Frees compiled programs before they are too many: each is a few memory maps, of which Linux allows 65,530."""
    yield
    maps = pathlib.Path('/proc/self/maps')
    if maps.exists() and maps.read_text().count('\n') > MOST_MAPS:
        jax.clear_caches()

"""What all tests share: programs that one test has compiled are not compiled again by another."""

import os
import shutil
import tempfile

import jax
import pytest

CACHE = 'JAX_COMPILATION_CACHE_DIR'


def pytest_configure(config):
    """A folder for compiled programs that lasts as long as this run; its worker processes inherit it."""
    if CACHE not in os.environ:
        config.compiled_programs = os.environ[CACHE] = tempfile.mkdtemp(prefix='compiled-')


def pytest_unconfigure(config):
    if hasattr(config, 'compiled_programs'):
        shutil.rmtree(config.compiled_programs, ignore_errors=True)
        del os.environ[CACHE]


@pytest.fixture(autouse=True, scope='module')
def forget_programs():
    """Frees the programs of a file: each is a few memory maps, of which Linux allows a process 65,530 in all."""
    yield
    jax.clear_caches()

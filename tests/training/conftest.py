"""What the tests of whole runs share."""

import jax
import pytest


@pytest.fixture(scope='session', autouse=True)
def compile_once(tmp_path_factory):
    """Several tests run the same step, which takes half a minute to compile: keep what was compiled."""
    jax.config.update('jax_compilation_cache_dir', str(tmp_path_factory.getbasetemp() / 'compiled'))
    yield
    jax.config.update('jax_compilation_cache_dir', None)

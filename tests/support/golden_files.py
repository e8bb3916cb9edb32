"""Where the reference numbers are, and how a test runs on every file of a group.

The folder is what the environment variable `SOGNET_GOLDEN` names, else `tests/golden` (a small copy of the operator
files). More files of a group may be dropped in: tests find them by prefix.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.paths import ROOT

SHIFT = np.array([0, 0, 1, 1], np.float32)
"""From the inclusive corners of the published code to half-open boxes."""


def folder() -> pathlib.Path:
    """The folder of golden files."""
    return pathlib.Path(os.environ.get('SOGNET_GOLDEN', ROOT / 'tests' / 'golden')).resolve()


def real_data() -> pathlib.Path:
    """The folder of small samples of real data sets that lies beside the full set of golden files; may be missing."""
    return folder().parent / 'data'


def parametrize(prefix: str, argument: str = 'golden_path', quick: str = ''):
    """Run a test once for every `.npz` file whose name starts with `prefix`; skip with a reason where there is none.

    The test is slow for files that do not have `quick` in their name.
    """
    paths = sorted(folder().glob(f'{prefix}*.npz'))
    if not paths:
        reason = f'no {prefix}*.npz in {folder()} (set SOGNET_GOLDEN)'
        return pytest.mark.parametrize(argument, [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
    return pytest.mark.parametrize(
        argument,
        [pytest.param(path, id=path.stem, marks=[] if quick in path.stem else [pytest.mark.slow]) for path in paths],
    )


def load(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of one golden file."""
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


def load_or_skip(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of a golden file that belongs to another one; skips the test where it is not there."""
    if not path.exists():
        pytest.skip(f'no {path.name} in {path.parent}')
    return load(path)


def nhwc(array: np.ndarray) -> jax.Array:
    """A stored NCHW array in our layout."""
    return jnp.moveaxis(jnp.array(array), 1, -1)


def close(actual: jax.Array, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Compares relative to the largest expected value."""
    scale = np.abs(expected).max() + 1e-12
    np.testing.assert_allclose(np.asarray(actual) / scale, expected / scale, atol=tolerance)


def near(actual: jax.Array, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Compares relative to the standard deviation of the expected values, as is fit for a network's features."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance * np.std(expected) + 1e-12)

"""The weights of the stored whole-network numbers, and everything that can be wrong with a checkpoint."""

import json

import jax
import numpy as np
import pytest

from tests import golden_files, published

has_weights = pytest.mark.skipif(
    not (golden_files.folder() / 'weights_fingerprint.json').exists(), reason='no weights_fingerprint.json'
)


@has_weights
def test_weights_by_rule_are_the_stored_ones():
    with open(golden_files.folder() / 'weights_fingerprint.json') as file:
        fingerprints = json.load(file)
    arrays = published.state_dict()
    assert arrays.keys() == fingerprints.keys()
    for name, array in arrays.items():
        flat = array.astype(np.float64).ravel()
        actual = [flat.sum(), np.square(flat).sum(), *flat[:3]]
        expected = fingerprints[name]
        np.testing.assert_allclose(actual[:2], expected[:2], rtol=1e-5, atol=1e-5, err_msg=name)

"""Targets with a void channel, against a loop over pixels."""

import numpy as np

from sognet_jax.targets.void import void_targets


def test_pixels_of_unknown_instances_are_void():
    rng = np.random.default_rng(0)
    panoptic, unknown = rng.integers(-1, 7, (5, 6)).astype(np.int16), np.array([False, True, False, True])
    targets = np.asarray(void_targets(panoptic, unknown, num_stuff=3))
    for pixel, label in np.ndenumerate(panoptic):
        is_unknown = label >= 3 and unknown[label - 3]
        assert targets[pixel] == (3 + 4 if is_unknown else label)
    assert (targets == 7).any() and (targets == -1).any()

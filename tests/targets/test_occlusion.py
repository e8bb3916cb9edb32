"""Which pairs the occlusion head is asked, and the right answers, against a loop over pairs."""

import jax
import numpy as np
import pytest

from sognet_jax.ops.sampling import sample_pairs
from sognet_jax.targets.occlusion import occlusion_targets


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('k', [3, 40])
def test_pairs_and_answers_are_those_of_a_loop(seed, k):
    rng = np.random.default_rng(seed)
    order = np.triu(rng.random((5, 5)) < 0.7, 1)
    shuffled = rng.permutation(5)
    order = order[np.ix_(shuffled, shuffled)]
    decided = rng.random((5, 5)) < 0.8
    decided |= decided.T
    matched = rng.integers(0, 5, 9)
    overlap = rng.random((9, 9)) < 0.6
    overlap &= overlap.T
    priority = rng.random((9, 9)).astype(np.float32)
    pairs, lies_on = jax.device_get(jax.jit(occlusion_targets, static_argnames='k')(
        order, decided, matched, overlap, priority, k=k
    ))  # fmt: skip
    wanted = []
    for i in range(9):
        for j in range(i + 1, 9):
            a, b = matched[i], matched[j]
            if a != b and overlap[i, j] and decided[a, b] and (order[a, b] or order[b, a]):
                wanted.append((priority[i, j], i, j, bool(order[b, a])))
    expected = {}
    for _, i, j, i_on_j in sorted(wanted)[:k]:
        expected |= {(i, j): i_on_j, (j, i): not i_on_j}
    found = {
        (i, j): answer
        for i, j, valid, answer in zip(*(x.tolist() for x in (*pairs, lies_on)), strict=True)
        if valid
    }  # fmt: skip
    assert found == expected and np.sum(pairs.valid) == len(expected) > 0


def test_fewer_places_than_pairs_and_none_at_all():
    pairs = sample_pairs(np.zeros((3, 3), bool), 4, np.zeros((3, 3), np.float32))
    assert len(pairs.first) == 4 and not np.any(pairs.valid)
    pairs = sample_pairs(np.ones((2, 2), bool), 9, np.array([[3, 2], [1, 0]], np.float32))
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(1, 1), (1, 0), (0, 1), (0, 0)]

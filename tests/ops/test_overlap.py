"""Overlap resolving against loops over Eq. (6) to (8)."""

import jax
import numpy as np
import pytest

from sognet_jax.ops.overlap import overlap_relations, resolve_overlaps
from tests.support.sequential import resolve_overlaps_sequential


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 6, 7)).astype(np.float32) * 3
    inside = rng.uniform(size=logits.shape) < 0.6
    potential = rng.uniform(size=(5, 5)).astype(np.float32)
    takes_part = np.array([True, True, True, False, True])
    return logits * inside, inside, overlap_relations(potential, takes_part)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize('outside', ['zero', 'absent'])
def test_joint_resolving_is_equation_7_summed_by_hand(scene, outside):
    logits, inside, relations = scene
    present = sigmoid(logits) * (inside if outside == 'absent' else 1)
    expected = np.array(
        [logits[i] - logits[i] * present[i] * sum(present[j] * relations[i, j] for j in range(5)) for i in range(5)]
    )
    actual = resolve_overlaps(logits, relations, inside if outside == 'absent' else None)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize('outside', ['zero', 'absent'])
def test_sequential_resolving_is_equation_6_pair_after_pair(scene, outside):
    logits, inside, relations = scene
    current = logits.astype(np.float64)
    for i in range(5):
        for j in range(i + 1, 5):
            s_i, s_j = sigmoid(current[i]), sigmoid(current[j])
            if outside == 'absent':
                s_i, s_j = s_i * inside[i], s_j * inside[j]
            new_i = current[i] - current[i] * s_i * s_j * relations[i, j]
            new_j = current[j] - current[j] * s_j * s_i * relations[j, i]
            current[i], current[j] = new_i, new_j
    actual = jax.jit(resolve_overlaps_sequential)(logits, relations, inside if outside == 'absent' else None)
    np.testing.assert_allclose(actual, current, atol=1e-5)


def test_joint_and_sequential_agree_on_two_instances(scene):
    logits, _, relations = scene
    np.testing.assert_allclose(
        resolve_overlaps(logits[:2], relations[:2, :2]),
        resolve_overlaps_sequential(logits[:2], relations[:2, :2]),
        atol=1e-6,
    )


def test_relations_have_one_direction_and_leave_out_who_takes_no_part(scene):
    _, _, relations = scene
    assert np.all(np.minimum(relations, relations.T) == 0)
    assert np.all(np.diag(relations) == 0)
    assert np.all(relations[3] == 0) and np.all(relations[:, 3] == 0)
    assert (relations + relations.T)[0, 1] > 0

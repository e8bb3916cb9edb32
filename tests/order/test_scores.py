"""The scores against their definitions written as loops."""

import pathlib

import numpy as np
import pytest

from sognet_jax.data.sources.orders.readers import NO_DEPTH, OrderedImage
from sognet_jax.order.scores import OrderScores


def ordered(covered, decided=None, depth=None):
    count = len(covered)
    decided = ~np.eye(count, dtype=bool) if decided is None else decided
    of_file = 'place', pathlib.Path('a.jpg'), 'a.jpg', 1, (4, 4), np.arange(count), ['x'] * count
    return OrderedImage(*of_file, [], [], covered, decided, NO_DEPTH if depth is None else depth)


def random_matrix(rng, count, share=0.3):
    return (rng.uniform(size=(count, count)) < share) & ~np.eye(count, dtype=bool)


def random_depth(rng, count):
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count) if rng.uniform() < 0.8]
    turned = [pair if rng.uniform() < 0.5 else pair[::-1] for pair in pairs]
    rows = [(i, j, int(rng.integers(2)), int(rng.integers(2)), int(rng.integers(2, 9))) for i, j in turned]
    return np.array(rows, int).reshape(-1, 5)


def plain_rates(says, covered, counts):
    """Recall, precision and F1 by the definition with `zero_division=1`."""
    both = said = true = 0
    for i in range(len(says)):
        for j in range(len(says)):
            if i != j and counts(i, j):
                both += says[i, j] and covered[i, j]
                said += says[i, j]
                true += covered[i, j]
    return [
        both / true if true else 1.0,
        both / said if said else 1.0,
        2 * both / (said + true) if said + true else 1.0,
    ]


def plain_depth(says, depth):
    """WHDR of an image by the group of pairs, {} where it has none."""
    groups = {'distinct': [], 'overlapping': [], 'all': []}
    for first, second, equal, overlapping, answers in depth:
        said = '?'
        if says[second, first] and not says[first, second]:
            said = '<'
        if says[first, second] and not says[second, first]:
            said = '>'
        row = (2 / answers, said != ('=' if equal else '<'), said != '?')
        groups['overlapping' if overlapping else 'distinct'].append(row)
        groups['all'].append(row)
    found = {}
    for name, rows in groups.items():
        answered = [row for row in rows if row[2]]
        if rows:
            found[f'whdr_{name}'] = sum(w * wrong for w, wrong, _ in rows) / sum(w for w, *_ in rows)
            found[f'depth_answered_{name}'] = sum(w for w, *_ in answered) / sum(w for w, *_ in rows)
        if answered:
            found[f'whdr_answered_{name}'] = sum(w * wrong for w, wrong, _ in answered) / sum(w for w, *_ in answered)
    return found


@pytest.mark.parametrize('seed', range(4))
def test_scores_are_their_definitions_to_the_last_digit(seed):
    rng = np.random.default_rng(seed)
    scores, expected, depths = OrderScores(), [], {}
    right = pairs = mutual_pairs = 0
    for count in [0, 1, 2, 3, 5, 9, 9, 9]:
        covered, says = random_matrix(rng, count, 0.25), random_matrix(rng, count, rng.choice([0, 0.2, 0.6]))
        undecided = random_matrix(rng, count, 0.1)
        decided = ~(undecided | undecided.T) & ~np.eye(count, dtype=bool)
        covered &= decided
        mutual = covered & covered.T
        depth = random_depth(rng, count)
        scores.add(says, ordered(covered, decided, depth))
        expected.append(
            plain_rates(says, covered, lambda i, j: decided[i, j])  # noqa: B023
            + plain_rates(says, covered, lambda i, j: decided[i, j] and not mutual[i, j])  # noqa: B023
        )
        for name, value in plain_depth(says, depth).items():
            depths.setdefault(name, []).append(value)
        for i, j in np.argwhere(covered & ~mutual):
            pairs += 1
            right += says[i, j] and not says[j, i]
        mutual_pairs += np.count_nonzero(mutual) // 2
    metrics = scores.metrics()
    names = [f'{name}{suffix}' for suffix in ('', '_without_mutual') for name in ('recall', 'precision', 'f1')]
    means = {name: 100 * np.mean(column) for name, column in zip(names, zip(*expected, strict=True), strict=True)}
    means |= {name: 100 * np.mean(values) for name, values in depths.items()}
    assert mutual_pairs > 0 and metrics['mutual_pairs'] == mutual_pairs
    assert (metrics['pairs_right'], metrics['pairs'], metrics['images']) == (right, pairs, 8)
    assert metrics['pairs_accuracy'] == 100 * right / pairs
    assert len(metrics) == len(means) + 5
    for name, value in means.items():
        assert metrics[name] == pytest.approx(value, rel=1e-14), name


def test_one_image_is_exact():
    """No mean rounds anything: the digits are those of the definition."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        covered, says = random_matrix(rng, 6), random_matrix(rng, 6)
        scores = OrderScores()
        scores.add(says, ordered(covered))
        expected = plain_rates(says, covered, lambda i, j: True)
        assert [scores.metrics()[name] for name in ('recall', 'precision', 'f1')] == [100 * value for value in expected]


def test_silence_is_precise_and_recalls_nothing():
    covered = np.zeros((3, 3), bool)
    covered[0, 1] = True
    scores = OrderScores()
    scores.add(np.zeros((3, 3), bool), ordered(covered))
    metrics = scores.metrics()
    assert (metrics['recall'], metrics['precision'], metrics['f1'], metrics['pairs_right']) == (0, 100, 0, 0)


def test_what_is_said_both_ways_is_not_right():
    covered = np.array([[False, True], [False, False]])
    scores = OrderScores()
    scores.add(covered | covered.T, ordered(covered))
    assert (scores.metrics()['pairs_right'], scores.metrics()['recall']) == (0, 100)


def test_nothing_at_all():
    assert OrderScores().metrics()['images'] == 0

"""Scores of who covers whom as InstaOrder, COCOA, KINS and SynTable define them: docs/order-benchmarks.md."""

import math
from collections import defaultdict

import numpy as np

from sognet_jax.data.sources.orders.readers import OrderedImage


class OrderScores:
    """Adds up images; every score is a mean over images but for the share of pairs."""

    def __init__(self) -> None:
        self._of_images: dict[str, list[float]] = defaultdict(list)
        self._counts = {'images': 0, 'pairs': 0, 'pairs_right': 0, 'mutual_pairs': 0}

    def add(self, says: np.ndarray, image: OrderedImage) -> None:
        """Counts one image, of whose instances `says` says that i is covered by j, `[n, n]` bool; pairs that the image,
        the truth, does not decide do not count.
        """
        known, mutual = image.decided, image.covered & image.covered.T
        for suffix, counted in (('', known), ('_without_mutual', known & ~mutual)):
            for name, rate in rates(says & counted, image.covered & counted).items():
                self._of_images[f'{name}{suffix}'].append(rate)
        ordered = image.covered & known & ~mutual
        self._counts['images'] += 1
        self._counts['pairs'] += int(np.count_nonzero(ordered))
        self._counts['pairs_right'] += int(np.count_nonzero(ordered & says & ~says.T))
        self._counts['mutual_pairs'] += int(np.count_nonzero(mutual)) // 2
        for name, value in depth_scores(says, image.depth).items():
            self._of_images[name].append(value)

    def metrics(self) -> dict[str, float]:
        """In percent; `images`, `pairs`, `pairs_right` and `mutual_pairs` are numbers."""
        right, pairs = self._counts['pairs_right'], self._counts['pairs']
        means = {name: 100 * math.fsum(values) / len(values) for name, values in self._of_images.items()}
        return means | {'pairs_accuracy': 100 * right / pairs if pairs else math.nan} | self._counts


def rates(says: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Recall, precision and F1 of ordered pairs, in 0..1; 1 where there is nothing to divide by."""
    right, said, true = (int(np.count_nonzero(pairs)) for pairs in (says & truth, says, truth))
    ratios = {'recall': (right, true), 'precision': (right, said), 'f1': (2 * right, said + true)}
    return {name: part / total if total else 1.0 for name, (part, total) in ratios.items()}


def depth_scores(says: np.ndarray, depth: np.ndarray) -> dict[str, float]:
    """The weighted share of pairs whose depth is said wrongly, in 0..1, with weights 2 / count; nothing for no pairs.

    What covers another is nearer. Of other pairs O says nothing, which is wrong in `whdr_...`; `whdr_answered_...` is
    of the pairs of which it says something, which have the share `depth_answered_...` of the weights. `depth`, the
    truth, is that of `OrderedImage`.
    """
    first, second, equal, overlapping, answers = depth.T
    nearer, farther = says[second, first], says[first, second]
    answered, wrong = nearer ^ farther, ~nearer | farther | (equal == 1)
    scores = {}
    groups = {'distinct': overlapping == 0, 'overlapping': overlapping == 1, 'all': answers > 0}
    for name, chosen in groups.items():
        weights = chosen * 2 / answers
        if chosen.any():
            scores[f'whdr_{name}'] = float(weights[wrong].sum() / weights.sum())
            scores[f'depth_answered_{name}'] = float(weights[answered].sum() / weights.sum())
        if (chosen & answered).any():
            scores[f'whdr_answered_{name}'] = float(weights[wrong & answered].sum() / weights[answered].sum())
    return scores

"""What the runs say about a claim: a 95 % paired t interval over seeds, fixed before any network was trained."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import scipy.stats

from benchmarks.tables.rows import CROWDED, TABLE_1, TABLE_2, Row
from benchmarks.tables.runs import Results

CONFIDENCE = 0.95
MOST_SEEDS = 1000
"""More than so many are not looked for."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """One number is larger than another.

    Attributes:
        text: in words.
        better, worse: the two, each a row and a metric of it.
        of_paper: the paper says so; else it is what the relations are for.
    """

    text: str
    better: tuple[Row, str]
    worse: tuple[Row, str]
    of_paper: bool = True


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the runs say.

    Attributes:
        answer: `holds`, `does not hold`, `undecided`, or `not run`.
        seeds: that both numbers are there of.
        difference: its mean.
        low, high: of the interval of the mean.
        seeds_needed: with how many the interval would leave out 0, were mean and spread the same; None where it does,
            and where more than `MOST_SEEDS` would be needed.
    """

    answer: str
    seeds: int
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds_needed: int | None = None


HEURISTICS, PRIOR, PLAIN_PH1, SOGNET_PH1, SOGNET_PH2 = TABLE_2[:5]
BOX, CATEGORY, BOTH, MASK, OVERLAP = TABLE_1
ORDER = 'order_accuracy_true'

CLAIMS = (
    Claim('SOGNet with panoptic head 2 beats PlainNet with heuristics', (SOGNET_PH2, 'PQ'), (HEURISTICS, 'PQ')),
    Claim('it beats PlainNet with heuristics and label prior', (SOGNET_PH2, 'PQ'), (PRIOR, 'PQ')),
    Claim('a label prior helps the heuristics', (PRIOR, 'PQ'), (HEURISTICS, 'PQ')),
    Claim('a panoptic head is better than heuristics and label prior', (PLAIN_PH1, 'PQ'), (PRIOR, 'PQ')),
    Claim('SOGNet (PH1) beats PlainNet (PH1)', (SOGNET_PH1, 'PQ'), (PLAIN_PH1, 'PQ')),
    Claim('panoptic head 2 beats head 1', (SOGNET_PH2, 'PQ'), (SOGNET_PH1, 'PQ')),
    Claim('category and box tell the order better than boxes', (BOTH, ORDER), (BOX, ORDER)),
    Claim('category and box tell the order better than categories', (BOTH, ORDER), (CATEGORY, ORDER)),
    Claim('masks help a little to tell the order', (MASK, ORDER), (BOTH, ORDER)),
    Claim('Eq. (12) tells the order as well as supervision by R*', (OVERLAP, ORDER), (MASK, ORDER)),
)


def _of_world(sognet: Row, without: Row, occlusion: Row, once: Row, world: str) -> tuple[Claim, ...]:
    def pixels(text: str, better: str, worse: str, kind: str = 'overlap_pixels') -> Claim:
        return Claim(f'{world}: {text}', (sognet, f'{kind}/{better}'), (sognet, f'{kind}/{worse}'), False)

    same = 'overlap_pixels_same_class'
    return (
        Claim(f'{world}: O adds to panoptic quality', (sognet, 'PQ'), (without, 'PQ'), False),
        pixels('on overlap pixels the learned O beats O = 0', 'head_2', 'zero'),
        pixels('of one class, the learned O beats O = 0', 'head_2', 'zero', same),
        pixels('on overlap pixels the learned O beats the occlusion head', 'head_2', 'occlusion_head'),
        pixels('of one class, the learned O beats the occlusion head', 'head_2', 'occlusion_head', same),
        pixels('the true order beats the learned O', 'true_order', 'head_2'),
        pixels('of one class, the true order beats the learned O', 'true_order', 'head_2', same),
        Claim(f'{world}: SOGNet beats PlainNet with an occlusion head', (sognet, 'PQ'), (occlusion, 'PQ'), False),
        Claim(f'{world}: it beats it where that meets no object twice', (sognet, 'PQ'), (once, 'PQ'), False),
    )


QUESTIONS = (
    *_of_world(*TABLE_2[4:], 'shapes'),
    *_of_world(*CROWDED[4:], 'crowded'),
)


def judge(claim: Claim, results: Results) -> Verdict:
    """What the runs say about a claim, with the seeds for which both numbers are there."""
    better, worse = (results.values(*side) for side in (claim.better, claim.worse))
    seeds = sorted(better.keys() & worse.keys())
    differences = np.array([better[seed] - worse[seed] for seed in seeds])
    if len(seeds) < 2:
        return Verdict('not run', len(seeds), *map(float, differences[:1]))
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    half = _half_width(len(seeds), deviation)
    if abs(mean) <= half:
        enough = (count for count in range(len(seeds) + 1, MOST_SEEDS + 1) if _half_width(count, deviation) < abs(mean))
        return Verdict('undecided', len(seeds), mean, mean - half, mean + half, next(enough, None))
    return Verdict('holds' if mean > 0 else 'does not hold', len(seeds), mean, mean - half, mean + half)


def _half_width(count: int, deviation: float) -> float:
    """Of the interval of a mean of `count` values whose standard deviation is given."""
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)


def count_answers(verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    """How many have which answer."""
    answers = [verdict.answer for verdict in verdicts.values()]
    return {answer: answers.count(answer) for answer in dict.fromkeys(answers)}

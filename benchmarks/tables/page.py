"""The page of results: the tables with mean and spread over seeds, and what of the paper's claims they bear out."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from sognet_jax.evaluation.summary import FUSIONS, Metrics
from sognet_jax.programs.tables.rows import (
    CHOICES,
    HEURISTICS,
    PLAIN_PH1,
    PRIOR,
    SCORE_THRESHOLD,
    SOGNET_PH1,
    SOGNET_PH2,
    STEPS,
    TABLE_1,
    TABLE_2,
    Row,
)

Results = Mapping[tuple[str, int], Metrics]

PQ_COLUMNS = {'PQ': 'PQ', 'PQ_things': 'PQ things', 'PQ_stuff': 'PQ stuff', 'SQ': 'SQ', 'RQ': 'RQ'}
ORDER_COLUMNS = {
    'PQ': 'PQ',
    'SQ': 'SQ',
    'RQ': 'RQ',
    'OA': 'OA by R*',
    'OA_true': 'OA, true order',
    'order_accuracy': 'order by R*',
    'order_accuracy_true': 'order, true',
}


@dataclasses.dataclass(frozen=True)
class Claim:
    """The paper says that one row is better than another."""

    text: str
    better: Row
    worse: Row
    metric: str


BOX, CATEGORY, BOTH, MASK, OVERLAP = TABLE_1
CLAIMS = (
    Claim('SOGNet with panoptic head 2 beats PlainNet with heuristics', SOGNET_PH2, HEURISTICS, 'PQ'),
    Claim('SOGNet with panoptic head 2 beats PlainNet with heuristics and label prior', SOGNET_PH2, PRIOR, 'PQ'),
    Claim('a label prior helps the heuristics', PRIOR, HEURISTICS, 'PQ'),
    Claim('PlainNet is better with a panoptic head than with heuristics and label prior', PLAIN_PH1, PRIOR, 'PQ'),
    Claim('SOGNet (PH1) beats PlainNet (PH1)', SOGNET_PH1, PLAIN_PH1, 'PQ'),
    Claim('panoptic head 2 beats head 1', SOGNET_PH2, SOGNET_PH1, 'PQ'),
    Claim('category and box together tell the order better than boxes', BOTH, BOX, 'order_accuracy_true'),
    Claim('category and box together tell the order better than categories', BOTH, CATEGORY, 'order_accuracy_true'),
    Claim('masks help a little to tell the order', MASK, BOTH, 'order_accuracy_true'),
    Claim('Eq. (12) tells the order as well as supervision by R*', OVERLAP, MASK, 'order_accuracy_true'),
)


def results_page(results: Results, seeds: Sequence[int], agreement: float, num_scenes: int) -> str:
    """The whole page as Markdown.

    Args:
        results: the metrics of every row, by title and seed.
        agreement: share of the validation pairs whose R* is the true order, in percent.
    """
    rules = results[SOGNET_PH2.title, seeds[0]]
    lines = [
        '# Tables 1 and 2 of the paper, on the drawn shapes',
        '',
        'Written by `make tables`. ' + _introduction(seeds, num_scenes),
        '',
        '## Table 1: what the relational embedding sees',
        '',
        *_table(TABLE_1, ORDER_COLUMNS, results, seeds),
        '',
        *_notes_on_order(rules, agreement),
        '',
        '## Table 2: how instances and stuff become one map',
        '',
        *_table(TABLE_2, PQ_COLUMNS, results, seeds),
        '',
        '## Choices of inference',
        '',
        'One and the same SOGNet, trained with `absent`; panoptic head 2.',
        '',
        *_table(CHOICES, PQ_COLUMNS, results, seeds),
        '',
        '## Overlap pixels',
        '',
        f'The detections of {SOGNET_PH2.title}, fused in every way: the share of the pixels claimed by two found '
        'instances that goes to the right one ([evaluation.md](evaluation.md#overlap-pixels)).',
        '',
        *_overlap_pixels(results, seeds),
        '',
        "## The paper's claims",
        '',
        'A difference counts where it is larger than the spread (the standard deviations of the two rows, added).',
        '',
        *(f'- {verdict(claim, results, seeds)}' for claim in CLAIMS),
    ]
    return '\n'.join(lines) + '\n'


def verdict(claim: Claim, results: Results, seeds: Sequence[int]) -> str:
    """One sentence: the claim, the difference, its spread, and whether it holds."""
    better, worse = (_values(row, claim.metric, results, seeds) for row in (claim.better, claim.worse))
    difference = statistics.mean(better) - statistics.mean(worse)
    spread = _spread(better) + _spread(worse)
    if abs(difference) <= spread:
        says = 'cannot be told from no difference'
    else:
        says = 'holds' if difference > 0 else 'does not hold: it is the other way round'
    unit = 'PQ' if claim.metric == 'PQ' else 'order accuracy against the true order'
    return f'{claim.text[0].upper()}{claim.text[1:]}: {says} ({difference:+.1f} {unit}, spread {spread:.1f}).'


def _introduction(seeds: Sequence[int], num_scenes: int) -> str:
    return (
        f'Each network is trained for {STEPS} steps (`make demo` takes 1,400) with the seeds '
        f'{", ".join(map(str, seeds))}, and evaluated on {num_scenes} scenes that it has not seen, all '
        f'with the score threshold {SCORE_THRESHOLD}. Numbers are mean and standard deviation over the seeds.'
    )


def _notes_on_order(rules: Metrics, agreement: float) -> list[str]:
    return [
        'OA is Eq. (15), order accuracy the share of overlapping pairs that have O >= 0.5 on the right side alone. '
        f'O = 0 has OA {rules["OA_zero"]:.1f}; the best rule with categories alone has order accuracy '
        f'{rules["order_accuracy_true_category_rule"]:.1f} against the true order, the best one with boxes alone '
        f'{rules["order_accuracy_true_geometry_rule"]:.1f} (a rule may guess where it does not know, and is then half '
        f'right; O may not). R* itself, found from which object shows more pixels, is the true order for '
        f'{agreement:.1f} % of the pairs.',
        '',
        'In the paper, Eq. (12) is the rule and supervision by R* (Eq. 14) a variant. Here it is the other way round, '
        'with the cross entropy of M in place of Eq. (14) ([relations.md](relations.md)): Eq. (12) does not '
        'say which of two lies in front, and the panoptic loss that should is nearly as content without relations '
        '([differences.md](differences.md#what-eq-12-can-teach)).',
    ]


def _table(rows: Sequence[Row], columns: Mapping[str, str], results: Results, seeds: Sequence[int]) -> list[str]:
    lines = [f'| | {" | ".join(columns.values())} |', '| --- |' + ' ---: |' * len(columns)]
    for row in rows:
        cells = [_cell(_values(row, metric, results, seeds)) for metric in columns]
        lines.append(f'| {row.title} | {" | ".join(cells)} |')
    return lines


def _overlap_pixels(results: Results, seeds: Sequence[int]) -> list[str]:
    columns = {'overlap_pixels': 'all', 'overlap_pixels_same_class': 'of one class'}
    lines = [f'| | {" | ".join(columns.values())} |', '| --- |' + ' ---: |' * len(columns)]
    compared = results[SOGNET_PH2.title, seeds[0]]
    for name, title in ((name, title) for name, title in FUSIONS.items() if f'overlap_pixels/{name}' in compared):
        cells = [_cell(_values(SOGNET_PH2, f'{column}/{name}', results, seeds)) for column in columns]
        lines.append(f'| {title} | {" | ".join(cells)} |')
    return lines


def _values(row: Row, metric: str, results: Results, seeds: Sequence[int]) -> list[float]:
    return [results[row.title, seed][metric] for seed in seeds]


def _cell(values: Sequence[float]) -> str:
    return f'{statistics.mean(values):.1f} ± {_spread(values):.1f}'


def _spread(values: Sequence[float]) -> float:
    """Standard deviation of what could have been drawn; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0

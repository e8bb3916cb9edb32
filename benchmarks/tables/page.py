"""The page of results: questions, tables with mean and range over seeds, answers, limits."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.tables.claims import CLAIMS, QUESTIONS, Verdict, count_answers, judge
from benchmarks.tables.figures import draw_fusion, draw_overlap_pixels, draw_verdicts
from benchmarks.tables.gap import Gap, gap_table
from benchmarks.tables.markdown import markdown_table, mean_and_range
from benchmarks.tables.rows import (
    CHOICES,
    CROWDED,
    NETWORKS,
    OCCLUSION_STEPS,
    SCORE_THRESHOLD,
    SOGNETS,
    STEPS,
    TABLE_1,
    TABLE_2,
    Row,
)
from benchmarks.tables.runs import Results
from sognet_jax.evaluation.summary import FUSIONS

ANSWER = pathlib.Path(__file__).with_name('answer.md')
"""What a reader may conclude; written by hand, of the runs in `benchmarks/results/tables/`."""

PQ_COLUMNS = {'PQ': 'PQ', 'PQ_things': 'PQ things', 'PQ_stuff': 'PQ stuff', 'SQ': 'SQ', 'RQ': 'RQ'}
ORDER_COLUMNS = {
    'PQ': 'PQ',
    'OA': 'OA by R*',
    'OA_true': 'OA, true order',
    'order_accuracy': 'order by R*',
    'order_accuracy_true': 'order, true',
}


def results_page(results: Results, gaps: Sequence[Gap], figures: pathlib.Path) -> str:
    """The whole page as Markdown; its figures are drawn into a folder beside it."""
    claims, questions = ({claim.text: judge(claim, results) for claim in of} for of in (CLAIMS, QUESTIONS))
    sections = [
        '# What the order is worth, on drawn scenes',
        _introduction(results, claims),
        '## In five lines',
        ANSWER.read_text(),
        *_order(results),
        *_fusion(results),
        draw_fusion(results, figures / 'fusion.png'),
        *_overlap_pixels(results),
        draw_overlap_pixels(results, figures / 'overlap_pixels.png'),
        *gap_table(gaps),
        '## What holds',
        'The difference of the two means with its 95 % paired t interval over seeds; a claim holds where the interval '
        'is above 0. Of twenty such intervals about one leaves out 0 by chance. Rows of one network share what its '
        'training has of luck; between networks a pair shares seed and scenes alone, which narrows little.',
        "The paper's claims:",
        _verdicts(claims),
        'What the order is worth, and the rival:',
        _verdicts(questions),
        draw_verdicts(claims | questions, figures / 'claims.png'),
        *_limits(),
    ]
    return '\n\n'.join(section.strip() for section in sections) + '\n'


def _introduction(results: Results, claims: Mapping[str, Verdict]) -> str:
    counted = ', '.join(f'{answer}: {number}' for answer, number in count_answers(claims).items())
    dead = f'Dead are {"; ".join(results.dead)}.' if results.dead else 'No run died.'
    runs = f'{results.count} of {len(results.seeds) * len(NETWORKS)} runs'
    return f"""
Written by `make tables` from the metrics of each run in `benchmarks/results/tables/`. The questions: does the paper's
network tell who lies on whom, what is that worth beyond panoptic quality, and how does it compare with a learned
occlusion head (OCFusion, Lazarow et al. 2020)?

Every network is trained from nothing for {STEPS} steps (`make demo` takes 1,400) in a process of its own, with the
order taught by R* where the network has relations, and evaluated on 200 scenes that it has not seen, with the score
threshold {SCORE_THRESHOLD}. There are two worlds: the shapes of the demo, and crowded scenes with twice the objects, of
few categories each. Numbers are the mean over {len(results.seeds)} seeds, in brackets the lowest and the
highest; where there are fewer seeds, their number stands behind. {runs} are in these tables; they took
{results.hours:.1f} hours, of one or two CPU cores each. {dead}

The paper's {len(claims)} claims ([below](#what-holds)): {counted}.
"""


def _order(results: Results) -> list[str]:
    rules = next((found for seed in results.seeds if (found := results.metrics(SOGNETS['shapes'], seed))), {})
    note = ''
    if rules:
        note = (
            'OA is Eq. (15), order accuracy the share of overlapping pairs that have O >= 0.5 on the right side alone. '
            f'O = 0 has OA {rules["OA_zero"]:.1f}; the best rule with categories alone has order accuracy '
            f'{rules["order_accuracy_true_category_rule"]:.1f} against the true order, the best one with boxes alone '
            f'{rules["order_accuracy_true_geometry_rule"]:.1f} (a rule may guess where it does not know, and is then '
            'half right; O may not).'
        )
    return [
        '## Table 1: what the relational embedding sees',
        _table(TABLE_1, ORDER_COLUMNS, results),
        note,
        'In the paper, Eq. (12) is the rule and supervision by R* (Eq. 14) a variant. Here it is the other way round, '
        'with the cross entropy of M in place of Eq. (14) ([relations.md](relations.md)): Eq. (12) does not say which '
        'of two lies in front, and the panoptic loss that should is nearly as content without relations '
        '([differences.md](differences.md#what-eq-12-can-teach)).',
    ]


def _fusion(results: Results) -> list[str]:
    return [
        '## Table 2: how instances and stuff become one map',
        'The shapes:',
        _table(TABLE_2, PQ_COLUMNS, results),
        'Crowded scenes:',
        _table(CROWDED, PQ_COLUMNS, results),
        'Choices of inference, one and the same SOGNet, trained with `absent`; panoptic head 2:',
        _table(CHOICES, PQ_COLUMNS, results),
    ]


def _overlap_pixels(results: Results) -> list[str]:
    columns = {
        f'{kind}/{world}': f'{world}{title}'
        for world in SOGNETS
        for kind, title in (('overlap_pixels', ''), ('overlap_pixels_same_class', ', one class'))
    }
    sides = [(SOGNETS[world], kind) for kind, world in (column.split('/') for column in columns)]
    counts = [results.values(row, kind).values() for row, kind in sides]
    rows = {'pixels in an evaluation': [f'{statistics.mean(count):,.0f}' if count else '–' for count in counts]} | {
        title: [_cell(results.values(row, f'{kind}/{name}'), results) for row, kind in sides]
        for name, title in FUSIONS.items()
    }
    return [
        '## Overlap pixels: where the order matters',
        'The detections of one SOGNet, fused in every way: the share of the pixels claimed by two found instances that '
        'goes to the right one ([evaluation.md](evaluation.md#overlap-pixels)). The pixels are the same for all ways; '
        'those of one class are few on the shapes, of a pair here and there. '
        f'The occlusion head is trained on the finished network for {OCCLUSION_STEPS} more steps, all else as it is.',
        markdown_table(list(columns.values()), rows),
    ]


def _verdicts(verdicts: Mapping[str, Verdict]) -> str:
    lines = ['| | difference | interval | |', '| --- | ---: | ---: | --- |']
    for text, verdict in verdicts.items():
        answer = verdict.answer
        if answer == 'undecided':
            needed = verdict.seeds_needed
            answer += f'; {needed} seeds would decide' if needed else '; a thousand seeds would not decide'
        interval = f'{verdict.low:+.1f} to {verdict.high:+.1f}' if verdict.seeds > 1 else '–'
        difference = f'{verdict.difference:+.1f}' if verdict.seeds else '–'
        lines.append(f'| {text} | {difference} | {interval} | {answer} ({verdict.seeds} seeds) |')
    return '\n'.join(lines)


def _limits() -> list[str]:
    return [
        '## Limits',
        'The scenes are drawn: clean outlines, ten categories, an order that follows from category and place but for '
        '5 % of the objects. The networks are small and trained for minutes, from nothing; on photographs with a '
        'pretrained backbone detections are better, and what remains for the order may be more or less. Masks of '
        'annotated instances are whole here, also where something lies on them; those of COCO mostly end where they '
        'are covered.',
    ]


def _table(rows: Sequence[Row], columns: Mapping[str, str], results: Results) -> str:
    cells = {row.title: [_cell(results.values(row, metric), results) for metric in columns] for row in rows}
    return markdown_table(list(columns.values()), cells)


def _cell(values: Mapping[int, float], results: Results) -> str:
    count = f', {len(values)} seeds' if 0 < len(values) != len(results.seeds) else ''
    return mean_and_range(list(values.values())) + count

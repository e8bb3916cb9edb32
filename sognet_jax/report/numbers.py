"""The headline numbers of a report as HTML: tiles for the qualities, bars for who covers whom beside simple rules.

Every metric may be absent or NaN; an en dash stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MISSING = '–'

RULES = {'zero': 'O = 0', 'category_rule': 'category rule', 'geometry_rule': 'geometry rule'}
"""What needs no network to say who covers whom: the ends of the metrics' names, and what they are called."""

QUALITIES = ('PQ', 'SQ', 'RQ')


def quality_tiles(metrics: Mapping[str, float]) -> str:
    """PQ, SQ and RQ of all, things and stuff; mIoU; AP of masks and of boxes."""
    return (
        _panoptic_tile(metrics)
        + f'<div class="tile">{_hero("semantic head", metrics, "mIoU", "mIoU")}</div>'
        + (''.join(_precision_tile(metrics, kind) for kind in ('mask', 'box')))
    )


def relation_blocks(metrics: Mapping[str, float]) -> str:
    """Who covers whom, against R*, against the true order where there is one, and on predictions."""
    if 'OA' not in metrics and 'order_accuracy' not in metrics:
        return '<div class="block"><p class="note">This method does not say who covers whom.</p></div>'
    pairs = count(metrics.get('order_pairs', math.nan))
    blocks = (
        (
            'order accuracy',
            f'which of two is in front, {pairs} overlapping pairs; a rule knows category or geometry alone',
            _order(metrics),
        ),
        ('overlap accuracy', 'Eq. (15), over all pairs of instances', _overlap(metrics)),
        ('order accuracy on predictions', 'pairs of which both instances were found', _predicted(metrics)),
    )
    return ''.join(
        f'<div class="block"><h3>{title}</h3><p class="note">{note}</p>{body}</div>' for title, note, body in blocks
    )


def percent(value: float | None) -> str:
    """A percentage with one decimal."""
    return MISSING if value is None or math.isnan(value) else f'{value:.1f}'


def count(value: float) -> str:
    """A whole number with separators."""
    return MISSING if math.isnan(value) else f'{int(value):,}'


def track(value: float | None, mark: float = math.nan) -> str:
    """A bar from 0 to 100; a mark across it shows what is to be beaten."""
    tick = '' if math.isnan(mark) else f'<u style="left:{_clipped(mark):.2f}%"></u>'
    return f'<span class="track"><i style="width:{_clipped(value):.2f}%"></i>{tick}</span>'


def _panoptic_tile(metrics: Mapping[str, float]) -> str:
    rows = []
    for title, suffix in (('all', ''), ('things', '_things'), ('stuff', '_stuff')):
        cells = ''.join(f'<td>{percent(metrics.get(name + suffix))}</td>' for name in QUALITIES)
        rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    head = ''.join(f'<th scope="col">{name}</th>' for name in QUALITIES)
    table = f'<table class="grid"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="tile quality">{_hero("panoptic quality", metrics, "PQ", "PQ")}{table}</div>'


def _precision_tile(metrics: Mapping[str, float], kind: str) -> str:
    details = ''.join(
        f'<div><dt>{name.removeprefix("AP_")}</dt><dd>{percent(metrics.get(f"{kind}_{name}"))}</dd></div>'
        for name in ('AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large')
    )
    hero = _hero(f'{kind} average precision', metrics, f'{kind}_AP', 'AP')
    return f'<div class="tile">{hero}<dl class="details">{details}</dl></div>'


def _hero(title: str, metrics: Mapping[str, float], name: str, unit: str) -> str:
    """A large number."""
    value = percent(metrics.get(name))
    return f'<div class="hero"><h3>{title}</h3><p><b>{value}</b> <span>{unit}</span></p></div>'


def _order(metrics: Mapping[str, float]) -> str:
    bars = _comparison('against R*', metrics, 'order_accuracy', {f'order_accuracy_{end}': RULES[end] for end in RULES})
    if not math.isnan(metrics.get('order_accuracy_true', math.nan)):
        rules = {f'order_accuracy_true_{end}': RULES[end] for end in RULES}
        bars += _comparison('against the true order', metrics, 'order_accuracy_true', rules)
    return bars


def _overlap(metrics: Mapping[str, float]) -> str:
    bars = _comparison('against R*', metrics, 'OA', {'OA_zero': RULES['zero']})
    if not math.isnan(metrics.get('OA_true', math.nan)):
        bars += _comparison('against the true order', metrics, 'OA_true', {'OA_zero_true': RULES['zero']})
    return bars


def _predicted(metrics: Mapping[str, float]) -> str:
    """Order accuracy of found pairs beside that of all, and how many are found."""
    found = metrics.get('order_pairs_predicted', math.nan)
    total = metrics.get('order_pairs', math.nan)
    share = 100 * found / total if total > 0 else math.nan
    bars = (
        _bar('network', metrics.get('order_accuracy_predicted'), kind='own')
        + _bar('on ground truth', metrics.get('order_accuracy'))
        + _bar('pairs found', share)
    )
    note = f'<p class="note">{count(found)} of {count(total)} pairs were found.</p>'
    return f'<div class="compare"><h4>against R*</h4>{bars}{note}</div>'


def _comparison(title: str, metrics: Mapping[str, float], name: str, rules: Mapping[str, str]) -> str:
    """Bars of the network and of the rules (metric -> title), and by how much it is better than the best of them."""
    own = metrics.get(name, math.nan)
    values = {metric: metrics.get(metric, math.nan) for metric in rules}
    best = max((value for value in values.values() if not math.isnan(value)), default=math.nan)
    verdict = ''
    if not math.isnan(own - best):
        kind, word = ('ahead', 'above') if own > best else ('behind', 'below')
        rule = 'the best rule' if len(rules) > 1 else RULES['zero']
        verdict = f'<span class="{kind}">{abs(own - best):.1f} {word} {rule}</span>'
        if own == best:
            verdict = f'<span>equal to {rule}</span>'
    bars = _bar('network', own, best, 'own') + ''.join(_bar(rules[metric], values[metric]) for metric in rules)
    return f'<div class="compare"><h4>{title} {verdict}</h4>{bars}</div>'


def _bar(title: str, value: float | None, mark: float = math.nan, kind: str = 'rule') -> str:
    return f'<div class="bar {kind}"><span>{title}</span>{track(value, mark)}<b>{percent(value)}</b></div>'


def _clipped(value: float | None) -> float:
    """Length of a bar in percent."""
    return 0.0 if value is None or math.isnan(value) else min(max(value, 0.0), 100.0)

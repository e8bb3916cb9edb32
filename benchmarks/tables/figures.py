"""The figures of the page of results: one dot a seed for every way to fuse, and the intervals of all claims."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tables.claims import Verdict
from benchmarks.tables.rows import SOGNETS, WAYS_TO_FUSE
from benchmarks.tables.runs import Results
from sognet_jax.evaluation.summary import FUSIONS

mpl.use('agg')
COLORS = {'shapes': '#2b6cb0', 'crowded': '#c05621'}
ANSWER_COLORS = {'holds': '#2f855a', 'does not hold': '#c53030', 'undecided': '#718096'}
LINEAR = 2.0
"""Differences up to so many percent have a linear scale, larger ones a logarithmic one."""


def draw_fusion(results: Results, file: pathlib.Path) -> str:
    """PQ of Table 2 in both worlds; returns how the page shows it, as all do."""
    figure, axis = plt.subplots(figsize=(7.5, 3.0))
    titles = [row.title for row in next(iter(WAYS_TO_FUSE.values()))]
    _dots(axis, titles, lambda world, place: results.values(WAYS_TO_FUSE[world][place], 'PQ').values())
    axis.set_xlabel('PQ')
    _legend(axis, COLORS, 'lower right')
    return _save(figure, file, 'PQ by way to fuse, one dot a seed')


def draw_overlap_pixels(results: Results, file: pathlib.Path) -> str:
    """All overlap pixels, and those between instances of one class."""
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), sharey=True)
    kinds = {'overlap_pixels': 'all overlap pixels', 'overlap_pixels_same_class': 'between instances of one class'}
    names = list(FUSIONS)
    for axis, (kind, title) in zip(axes, kinds.items(), strict=True):
        metrics = [f'{kind}/{name}' for name in names]
        _dots(
            axis,
            list(FUSIONS.values()),
            lambda world, place, metrics=metrics: results.values(SOGNETS[world], metrics[place]).values(),
        )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel('given to the right instance, %')
    _legend(axes[1], COLORS)
    return _save(figure, file, 'Overlap pixels by way to fuse, one dot a seed')


def draw_verdicts(verdicts: Mapping[str, Verdict], file: pathlib.Path) -> str:
    """The mean difference of each claim with its interval."""
    judged = {text: verdict for text, verdict in verdicts.items() if verdict.seeds > 1}
    figure, axis = plt.subplots(figsize=(9.5, 1.0 + 0.27 * len(judged)))
    for place, verdict in enumerate(judged.values()):
        color = ANSWER_COLORS[verdict.answer]
        axis.plot([verdict.low, verdict.high], [place, place], color=color, linewidth=2)
        axis.plot([verdict.difference], [place], 'o', color=color, markersize=5)
    axis.axvline(0, color='black', linewidth=0.8)
    axis.set_xscale('symlog', linthresh=LINEAR)
    ticks = [-50, -10, -5, -2, -1, 0, 1, 2, 5, 10, 50]
    axis.set_xticks(ticks, [f'{tick:+d}' if tick else '0' for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel('difference in percent, with its 95 % interval')
    _rows(axis, list(judged))
    _legend(axis, ANSWER_COLORS)
    return _save(figure, file, 'Differences that claims are about, with their intervals')


def _dots(axis: Axes, titles: Sequence[str], values: Callable[[str, int], Sequence[float]]) -> None:
    for shift, (world, color) in zip((-0.14, 0.14), COLORS.items(), strict=True):
        for place in range(len(titles)):
            found = list(values(world, place))
            axis.plot(found, [place + shift] * len(found), 'o', color=color, alpha=0.6, markersize=5)
    _rows(axis, titles)


def _rows(axis: Axes, titles: Sequence[str]) -> None:
    axis.set_yticks(range(len(titles)), titles, fontsize=9)
    axis.set_ylim(len(titles) - 0.5, -0.5)
    axis.grid(axis='x', alpha=0.3)


def _legend(axis: Axes, colors: Mapping[str, str], place: str = 'best') -> None:
    handles = [plt.Line2D([], [], marker='o', linestyle='', color=color, label=name) for name, color in colors.items()]
    axis.legend(handles=handles, loc=place, fontsize=8)


def _save(figure: Figure, file: pathlib.Path, title: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return f'![{title}]({file.parent.name}/{file.name})'

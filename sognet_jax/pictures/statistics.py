"""The statistics of a data set as one figure."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from sognet_jax.categories import CategorySet
from sognet_jax.data.examples.statistics import MEDIUM, SMALL, Statistics, undecided_by_state
from sognet_jax.data.records.overlap_file import STATES

BLUE, RED, GREY = '#266eb4', '#d64541', '#8c8c94'

MOST_CLASSES = 30
"""So many classes have a bar; the rarer ones are left out."""


def statistics_figure(found: Statistics, categories: CategorySet, max_instances: int) -> Figure:
    """Instances of an image (marked where there are more than N), their sizes, image sizes, pairs by state, and how
    often the classes occur.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(15, 11), layout=layout)  # without pyplot, which would need a backend
    axes = figure.subplot_mosaic('ABCD;TTSS', height_ratios=(1, 1.6))
    _instances(axes['A'], found, max_instances)
    _areas(axes['B'], found)
    _image_sizes(axes['C'], found)
    _pairs(axes['D'], found)
    stuff = categories.num_stuff
    if found.has_instances.any():
        things, unit = np.bincount(found.instance_classes, minlength=categories.num_things), 'instances'
    else:
        things, unit = np.bincount(found.segment_classes, minlength=categories.num_classes)[stuff:], 'segments'
    images = np.bincount(found.image_classes, minlength=categories.num_classes)[:stuff]
    _classes(axes['T'], f'thing classes: {unit}', things, [category.name for category in categories.things])
    _classes(axes['S'], 'stuff classes: images', images, [category.name for category in categories.stuff])
    for ax in axes.values():
        ax.spines[['top', 'right']].set_visible(False)
    return figure


def _instances(ax: Axes, found: Statistics, max_instances: int) -> None:
    counts = found.instances[found.has_instances]
    greatest = int(counts.max(initial=1))
    step = max(-(-greatest // 40), 1)
    bins = np.arange(0, greatest + 2 * step, step) - 0.5
    ax.hist(counts, bins.tolist(), color=BLUE, edgecolor='white', linewidth=0.5)
    if greatest > max_instances:
        ax.axvline(max_instances + 0.5, color=RED, linestyle='--', label=f'{max_instances} slots')
        ax.legend(frameon=False)
    ax.set(title='instances of an image', xlabel='instances', ylabel='images', ylim=(0, max(ax.get_ylim()[1], 1)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _areas(ax: Axes, found: Statistics) -> None:
    roots = np.sqrt(np.maximum(found.instance_areas, 1))
    bins = np.geomspace(min(roots.min(initial=8), 8), max(roots.max(initial=256), 256), 31)
    ax.hist(roots, bins.tolist(), color=BLUE, edgecolor='white', linewidth=0.5)
    ax.set_xscale('log', base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    left, right = ax.get_xlim()
    for edge in (SMALL, MEDIUM):
        ax.axvline(edge, color=GREY, linestyle='--', linewidth=1)
    ax.set_ylim(0, max(ax.get_ylim()[1], 1) * 1.12)
    for name, low, high in (('small', left, SMALL), ('medium', SMALL, MEDIUM), ('large', MEDIUM, right)):
        share = ((roots >= low) & (roots < high)).mean() if len(roots) else 0
        text = f'{name}\n{100 * share:.0f} %'
        ax.text(np.sqrt(low * high), 0.99, text, transform=ax.get_xaxis_transform(), ha='center', va='top', fontsize=8)
    ax.set(title='sizes of instances', xlabel='square root of the mask area (pixels)', ylabel='instances')
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _image_sizes(ax: Axes, found: Statistics) -> None:
    sizes, counts = np.unique(found.sizes, axis=0, return_counts=True)
    area = 300 * counts / counts.max() + 12
    ax.scatter(sizes[:, 1], sizes[:, 0], area, color=BLUE, alpha=0.45, edgecolor='white', linewidth=0.5)
    limit = 1.1 * sizes.max()
    ax.plot([0, limit], [0, limit], color=GREY, linewidth=1, linestyle='--', zorder=0)
    ax.set(xlim=(0, limit), ylim=(0, limit), title='sizes of images', xlabel='width (pixels)', ylabel='height (pixels)')


def _pairs(ax: Axes, found: Statistics) -> None:
    undecided = undecided_by_state(found)
    named = {'decided (R*)': int((found.covered >= 0).sum())}
    named |= {state.replace('_', ' '): undecided[state] for state in STATES}
    named['true order known'] = int((found.truly_covered >= 0).sum())
    colors = [RED] + [GREY] * len(STATES) + [BLUE]
    bars = ax.barh(list(named), list(named.values()), color=colors)
    ax.bar_label(bars, padding=3, fontsize=9)
    ax.invert_yaxis()
    ax.set(title=f'{len(found.covered)} overlapping pairs (R)', xlabel='pairs (grey: undecided, and why)')
    _room_for_numbers(ax, max(named.values()))


def _classes(ax: Axes, title: str, counts: np.ndarray, names: list[str]) -> None:
    order = np.argsort(-counts, kind='stable')
    order = order[counts[order] > 0]
    shown = order[:MOST_CLASSES]
    if len(shown) < len(order):
        title = f'{title} (the {len(shown)} most frequent of {len(order)})'
    bars = ax.barh([names[index] for index in shown], counts[shown], color=BLUE)
    ax.bar_label(bars, padding=3, fontsize=8)
    ax.tick_params(axis='y', labelsize=8)
    ax.set_ylim(max(len(shown), 20) - 0.5, -0.6)  # a few classes have no thicker bars
    ax.set(title=title)
    _room_for_numbers(ax, counts.max(initial=1))
    if not len(shown):
        ax.set(yticks=[])
        ax.text(0.5, 0.5, 'none', transform=ax.transAxes, ha='center', color=GREY)


def _room_for_numbers(ax: Axes, greatest: float) -> None:
    ax.set_xlim(0, 1.15 * max(greatest, 1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))

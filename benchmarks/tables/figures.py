"""The figures of the page of results: one dot a seed, one line a way to fuse."""

import pathlib

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.tables.rows import SOGNETS
from benchmarks.tables.runs import Results
from sognet_jax.evaluation.summary import FUSIONS

mpl.use('agg')
COLORS = {'shapes': '#2b6cb0', 'crowded': '#c05621'}


def draw_figures(results: Results, folder: pathlib.Path) -> list[str]:
    """Draws them into a folder beside the page; returns how the page shows them."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), sharey=True)
    kinds = {'overlap_pixels': 'all overlap pixels', 'overlap_pixels_same_class': 'between instances of one class'}
    for axis, (kind, title) in zip(axes, kinds.items(), strict=True):
        for place, fusion in enumerate(FUSIONS):
            for shift, (world, row) in zip((-0.12, 0.12), SOGNETS.items(), strict=True):
                values = list(results.values(row, f'{kind}/{fusion}').values())
                axis.plot(values, [place + shift] * len(values), 'o', color=COLORS[world], alpha=0.6, markersize=5)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel('given to the right instance, %')
        axis.grid(axis='x', alpha=0.3)
    axes[0].set_yticks(range(len(FUSIONS)), list(FUSIONS.values()))
    axes[0].invert_yaxis()
    handles = [
        plt.Line2D([], [], marker='o', linestyle='', color=color, label=world) for world, color in COLORS.items()
    ]
    axes[1].legend(handles=handles, loc='lower right', fontsize=9)
    figure.tight_layout()
    figure.savefig(folder / 'overlap_pixels.png', dpi=110)
    plt.close(figure)
    return [f'![Overlap pixels by way to fuse, one dot a seed]({folder.name}/overlap_pixels.png)']

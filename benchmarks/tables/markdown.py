"""Tables of the page of results."""

import statistics
from collections.abc import Mapping, Sequence


def markdown_table(header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Rows by their titles, numbers at the right."""
    lines = [f'| | {" | ".join(header)} |', '| --- |' + ' ---: |' * len(header)]
    return '\n'.join([*lines, *(f'| {title} | {" | ".join(cells)} |' for title, cells in rows.items())])


def mean_and_range(values: Sequence[float]) -> str:
    """The mean, the lowest and the highest; the value where there is one, a dash for none."""
    if len(values) < 2:
        return f'{values[0]:.1f}' if values else '–'
    return f'{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})'

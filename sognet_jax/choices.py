"""Arguments and config fields that are one of a few values."""

from collections.abc import Sequence
from typing import Any

OUTSIDE = ('zero', 'absent')
"""What a pasted mask is outside its box: logit 0, which is probability 0.5 (published), or probability 0."""

RESOLVE = ('joint', 'sequential')
"""How overlaps are resolved: Eq. (8), or pair by pair on what the pairs before have left (published)."""

PANOPTIC_HEADS = (1, 2)  # Eq. (9) and (10)


def require_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuses a value that is none of the choices; `name` is that of the argument or config field.

    Raises:
        ValueError: naming all three.
    """
    if value not in choices:
        raise ValueError(f'{name} must be {" or ".join(map(repr, choices))}, not {value!r}')

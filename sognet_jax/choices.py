"""Arguments and config fields that are one of a few values, or at least so much."""

import operator
from collections.abc import Sequence
from typing import Any

import ml_collections

OUTSIDE = ('zero', 'absent')
"""What a pasted mask is outside its box: logit 0, which is probability 0.5 (published), or probability 0."""

RESOLVE = ('joint', 'sequential')
"""How overlaps are resolved: Eq. (8), or pair by pair on what the pairs before have left (published)."""

PANOPTIC_HEADS = (1, 2)  # Eq. (9) and (10)

LEAST = {'batch_size': 1, 'seed': 0, 'data.max_instances': 1, 'data.short_side': 1, 'data.long_side': 1,
         'train.keep': 1, 'train.log_every': 1, 'train.checkpoint_every': 1}  # fmt: skip
"""Of config fields that are whole numbers."""


def require_numbers(config: ml_collections.ConfigDict) -> None:
    """Refuses a config with less than `LEAST`, by a ValueError that names the field."""
    for field, least in LEAST.items():
        if (value := operator.attrgetter(field)(config)) < least:
            raise ValueError(f'config field {field} must be at least {least}, not {value}')


def require_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuses a value that is none of the choices; `name` is that of the argument or config field.

    Raises:
        ValueError: naming all three.
    """
    if value not in choices:
        raise ValueError(f'{name} must be {" or ".join(map(repr, choices))}, not {value!r}')

"""Which networks are trained for the paper's Tables 1 and 2, and how each is evaluated."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from sognet_jax.configs import shapes

STEPS = 800
"""Training steps of a run: with its evaluation, under five minutes on two cores of a laptop."""

SCORE_THRESHOLD = 0.3
"""Of every row alike: after so few steps the networks are less sure of themselves than the demo's, which has 0.4."""

LABEL_PRIOR = 'label_prior.json'
"""Name of the rules' file in the folder of all runs."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: a trained network and how inference is done with it.

    Attributes:
        variant: of `configs/shapes.py`.
        inference: fields of the config's `inference` section that differ from the variant's own.
    """

    title: str
    variant: str
    inference: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def evaluation(self) -> str:
        """Folder name of this evaluation in the run's folder."""
        choices = [f'{name}={value}' for name, value in sorted(self.inference.items())]
        return '_'.join(['eval', *choices]).replace('/', '-')


TABLE_1 = (
    Row('box', 'box'),
    Row('category', 'category'),
    Row('box, category', 'both'),
    Row('box, category, mask', ''),
    Row('box, category, mask, by Eq. (12)', 'overlap'),
)
"""What the relational embedding sees. All but the last learn who covers whom from R*."""

HEURISTICS = Row('PlainNet + heuristics', 'plain', {'method': 'heuristics'})
PRIOR = Row('PlainNet + heuristics + label prior', 'plain', {'method': 'label_prior'})
PLAIN_PH1 = Row('PlainNet + PH1', 'plain', {'panoptic_head': 1})
SOGNET_PH1 = Row('SOGNet (PH1)', '', {'panoptic_head': 1})
SOGNET_PH2 = Row('SOGNet (PH2)', '')
TABLE_2 = (HEURISTICS, PRIOR, PLAIN_PH1, SOGNET_PH1, SOGNET_PH2)
"""How instances and stuff become one map."""

CHOICES = (
    Row('relations, absent outside the box, all at once', ''),
    Row('relations, absent outside the box, pair by pair', '', {'resolve': 'sequential'}),
    Row('relations, probability 0.5 outside the box, all at once', '', {'outside': 'zero'}),
    Row('relations, probability 0.5 outside the box, pair by pair', '', {'outside': 'zero', 'resolve': 'sequential'}),
    Row('no relations (O = 0)', '', {'method': 'panoptic_head'}),
)
"""Choices of inference with one and the same SOGNet (PH2)."""

ROWS = (*TABLE_1, *TABLE_2, *CHOICES)


def row_config(row: Row, seed: int, prior: str) -> ml_collections.ConfigDict:
    """The config that a row is trained and evaluated with; the scenes are the same for all seeds."""
    config = shapes.get_config(row.variant)
    config.seed = seed
    config.train.steps = STEPS
    config.train.checkpoint_every = STEPS // 4
    config.optimizer.drops = (int(0.7 * STEPS), int(0.9 * STEPS))
    config.inference.score_threshold = SCORE_THRESHOLD
    config.inference.update(row.inference)
    config.inference.label_prior = prior
    config.expected = ml_collections.ConfigDict()  # shapes.py expects what the demo reaches, which takes longer
    return config

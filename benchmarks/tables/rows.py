"""Which networks are trained for the tables, in which world of drawn scenes, and how each is evaluated."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from sognet_jax.configs import shapes

STEPS = 800
"""Training steps of a network: under four minutes on two cores."""

OCCLUSION_STEPS = 400
"""Steps in which a finished SOGNet is given an occlusion head, all else as it is."""

SCORE_THRESHOLD = 0.3
"""Of every row alike: after so few steps the networks are less sure of themselves than the demo's, which has 0.4."""

WORLDS = ('shapes', 'crowded')


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained, once for each seed.

    Attributes:
        variant: of `configs/shapes.py`.
        world: one of `WORLDS`.
    """

    variant: str = ''
    world: str = 'shapes'

    @property
    def name(self) -> str:
        """Of its files."""
        return f'{self.world}_{self.variant or "sognet"}'

    @property
    def gets_occlusion_head(self) -> bool:
        """Whether an occlusion head is trained on it, so that both are compared on one network's detections."""
        return self.variant == ''


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: a network and how inference is done with it.

    Attributes:
        title: of the line.
        network: which it is.
        inference: fields of the config's `inference` section that differ from the network's own.
    """

    title: str
    network: Network
    inference: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def evaluation(self) -> str:
        """Name of this evaluation among those of its network."""
        return '_'.join(['eval', *(f'{name}={value}' for name, value in sorted(self.inference.items()))])


SOGNET = Network()

TABLE_1 = (
    Row('box', Network('box')),
    Row('category', Network('category')),
    Row('box, category', Network('both')),
    Row('box, category, mask', SOGNET),
    Row('box, category, mask, by Eq. (12)', Network('overlap')),
)
"""What the relational embedding sees. All but the last learn who covers whom from R*."""


def ways_to_fuse(world: str) -> tuple[Row, ...]:
    """Table 2, how instances and stuff become one map, with the rival at its end."""
    plain, sognet, occlusion = (Network(variant, world) for variant in ('plain', '', 'occlusion'))
    return (
        Row('PlainNet + heuristics', plain, {'method': 'heuristics'}),
        Row('PlainNet + heuristics + label prior', plain, {'method': 'label_prior'}),
        Row('PlainNet + PH1', plain, {'panoptic_head': 1}),
        Row('SOGNet (PH1)', sognet, {'panoptic_head': 1}),
        Row('SOGNet (PH2)', sognet),
        Row('SOGNet (PH2), no relations (O = 0)', sognet, {'method': 'panoptic_head'}),
        Row('PlainNet + occlusion head', occlusion),
        Row('PlainNet + occlusion head, no object twice', occlusion, {'occlusion_largest_iou': 0.5}),
    )


WAYS_TO_FUSE = {world: ways_to_fuse(world) for world in WORLDS}
TABLE_2, CROWDED = WAYS_TO_FUSE.values()

SOGNETS = {world: rows[4] for world, rows in WAYS_TO_FUSE.items()}
"""SOGNet (PH2) of each world, whose detections are fused in every way."""

CHOICES = (
    Row('relations, absent outside the box, all at once', SOGNET),
    Row('relations, absent outside the box, pair by pair', SOGNET, {'resolve': 'sequential'}),
    Row('relations, probability 0.5 outside the box, all at once', SOGNET, {'outside': 'zero'}),
    Row(
        'relations, probability 0.5 outside the box, pair by pair',
        SOGNET,
        {'outside': 'zero', 'resolve': 'sequential'},
    ),
    Row("relations, with UPSNet's void channel", SOGNET, {'void_channel': True}),
)
"""Choices of inference with one and the same SOGNet (PH2)."""

ROWS = (*TABLE_1, *TABLE_2, *CHOICES, *CROWDED)

NETWORKS = tuple(dict.fromkeys(row.network for row in (*TABLE_2, *CROWDED, *TABLE_1)))
"""Every network, those first that say most."""


def network_config(network: Network, seed: int) -> ml_collections.ConfigDict:
    """The config that a network is trained with; the scenes of a world are the same for all seeds."""
    config = shapes.get_config(network.variant)
    if network.world == 'crowded':
        shapes.crowd(config)
    config.seed = seed
    config.train.steps = STEPS
    config.train.checkpoint_every = STEPS // 4
    config.train.eval_every = 0
    config.optimizer.drops = (int(0.7 * STEPS), int(0.9 * STEPS))
    config.inference.score_threshold = SCORE_THRESHOLD
    config.expected = ml_collections.ConfigDict()  # shapes.py expects what the demo reaches, which takes longer
    return config


def occlusion_config(network: Network, seed: int, trained: str) -> ml_collections.ConfigDict:
    """The config with which a finished network, whose folder is `trained`, is given an occlusion head."""
    config = network_config(network, seed)
    config.model.occlusion.width = shapes.get_config('occlusion').model.occlusion.width
    config.train.only = 'occlusion'
    config.train.initialize_from = trained
    config.train.steps = OCCLUSION_STEPS
    config.train.checkpoint_every = OCCLUSION_STEPS
    config.optimizer.drops = (int(0.7 * OCCLUSION_STEPS), int(0.9 * OCCLUSION_STEPS))
    return config

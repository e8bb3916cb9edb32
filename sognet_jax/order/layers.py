"""Who lies on whom as layers: from O to a graph without cycles, and from that to what lies how far in front."""

import dataclasses
import itertools
from collections.abc import Sequence

import networkx as nx
import numpy as np

from sognet_jax.scene import THRESHOLD, Overlap


@dataclasses.dataclass(frozen=True)
class LayerOrder:
    """The instances of an image from the back to the front.

    Attributes:
        graph: an edge from the covering to the covered one for each pair that is kept, its `strength` at it; no cycles.
        cut: the pairs that are not, since stronger ones contradict them, the strongest first.
        layers: ids, the first layer at the back. An instance lies as far back as it can: in the first layer if it
            covers nothing, else in the one that follows the highest of what it covers. So instances of one layer lie
            beside each other; their order in it, that of the ids, says nothing.
    """

    graph: nx.DiGraph
    cut: list[Overlap]
    layers: list[list[int]]

    @property
    def without_relations(self) -> list[int]:
        """Those that no pair names, neither a kept one nor one that was cut."""
        contradicted = {instance for pair in self.cut for instance in pair[:2]}
        return sorted(set(nx.isolates(self.graph)) - contradicted)

    @property
    def top(self) -> list[int]:
        """Those that nothing lies on."""
        return sorted(instance for instance, number in self.graph.in_degree if number == 0)


def order_layers(ids: Sequence[int], relations: np.ndarray) -> LayerOrder:
    """The layers of instances; the result depends on pairs and strengths alone, not on how instances are numbered.

    Args:
        ids: of the n instances.
        relations: `[n, n]` O; from 0.5 at (i, j) on, i is covered by j.

    Raises:
        ValueError: the shapes are others, or two ids are the same.
    """
    if relations.shape != (len(ids), len(ids)) or len(set(ids)) != len(ids):
        raise ValueError(
            f'relations {list(relations.shape)} of {len(ids)} instances, {len(set(ids))} of them different'
        )
    kept, cut = _break_cycles(relations)
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted(ids))
    graph.add_weighted_edges_from(_named(kept, ids, relations), weight='strength')
    layers = [sorted(layer) for layer in nx.topological_generations(graph.reverse(copy=False))]
    return LayerOrder(graph, _named(cut, ids, relations), layers)


def list_overlaps(ids: Sequence[int], relations: np.ndarray) -> list[Overlap]:
    """The pairs that count, the strongest first, equally strong ones by their ids."""
    return _named(np.argwhere(relations >= THRESHOLD), ids, relations)


def _named(pairs: np.ndarray, ids: Sequence[int], relations: np.ndarray) -> list[Overlap]:
    overlaps = [Overlap(ids[j], ids[i], float(relations[i, j])) for i, j in pairs.tolist()]
    return sorted(overlaps, key=lambda overlap: (-overlap.strength, overlap))


def _break_cycles(relations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (covered, covering) `[k, 2]` that stay, and those that do not: each is the weakest of a cycle.

    From the strongest pair down, a pair stays if it closes no cycle with those that stay already. Equally strong pairs
    are judged together: those that close a cycle all go, for none has a better claim than the others.
    """
    pairs = np.argwhere(relations >= THRESHOLD)
    strengths = relations[tuple(pairs.T)]
    stays = np.ones(len(pairs), bool)
    # Row a is what a reaches; with an edge (u, v), all that reach u reach what v reaches.
    reached = np.eye(len(relations), dtype=bool)
    for _, equals in itertools.groupby(np.argsort(-strengths).tolist(), key=lambda pair: strengths[pair]):
        group = list(equals)
        with_all = _reached_with(reached, pairs[group])
        stays[group] = ~with_all[pairs[group, 1], pairs[group, 0]]
        reached = with_all if stays[group].all() else _reached_with(reached, pairs[group][stays[group]])
    return pairs[stays], pairs[~stays]


def _reached_with(reached: np.ndarray, edges: np.ndarray) -> np.ndarray:
    reached = reached.copy()
    for start, end in edges.tolist():
        reached |= np.outer(reached[:, start], reached[end])
    return reached

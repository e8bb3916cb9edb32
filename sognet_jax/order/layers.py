"""Who lies on whom as layers: from O to a graph without cycles, and from that to what lies how far in front."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import networkx as nx
import numpy as np

from sognet_jax.scene import THRESHOLD, Overlap


@dataclasses.dataclass(frozen=True)
class LayerOrder:
    """The instances of an image from the back to the front."""

    # an edge from the covering to the covered one for each pair that is kept, its `strength` at it; no cycles
    graph: nx.DiGraph
    cut: list[Overlap]  # the pairs that are not, since others contradict them, the strongest first
    # ids, the first layer at the back. An instance lies as far back as it can: in the first layer if it covers nothing,
    # else in the one that follows the highest of what it covers. So instances of one layer lie beside each other; their
    # order in it, that of the ids, says nothing.
    layers: list[list[int]]

    @property
    def without_relations(self) -> list[int]:
        """Those that no pair names, neither a kept one nor one that was cut."""
        return sorted(set(nx.isolates(self.graph)).difference(*(pair[:2] for pair in self.cut)))


def order_layers(ids: Sequence[int], relations: np.ndarray) -> LayerOrder:
    """The layers of n instances, of which i is covered by j from 0.5 at (i, j) of the relations O, `[n, n]`, on.

    The result depends on pairs and strengths alone, not on how instances are numbered.

    Raises:
        ValueError: the shapes are others, or two ids are the same.
    """
    if relations.shape != (len(ids), len(ids)) or len(set(ids)) != len(ids):
        raise ValueError(
            f'relations {list(relations.shape)} of {len(ids)} instances, {len(set(ids))} of them different'
        )
    pairs = np.argwhere(relations >= THRESHOLD).tolist()
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted(ids))
    graph.add_weighted_edges_from(((ids[j], ids[i], float(relations[i, j])) for i, j in pairs), weight='strength')
    cut = _break_cycles(graph)
    return LayerOrder(graph, cut, [sorted(layer) for layer in nx.topological_generations(graph.reverse(copy=False))])


def strongest_first(overlaps: Sequence[Overlap]) -> list[Overlap]:
    """Pairs by their strength, equally strong ones by their ids."""
    return sorted(overlaps, key=lambda overlap: (-overlap.strength, overlap))


def _break_cycles(graph: nx.DiGraph) -> list[Overlap]:
    """Takes pairs from the graph until it has no cycle, and returns them: each is the weakest of a cycle.

    From the strongest pair down, a pair stays if it closes no cycle with those that stay already. Equally strong pairs
    are judged together: those that close a cycle all go, for none has a better claim than the others.
    """
    doubtful, cut = _inside_cycles(graph, itertools.starmap(Overlap, graph.edges(data='strength'))), []
    graph.remove_edges_from([pair[:2] for pair in doubtful])
    for _, equals in itertools.groupby(strongest_first(doubtful), key=lambda pair: pair.strength):
        judged = list(equals)
        graph.add_weighted_edges_from(judged, weight='strength')
        contradicted = _inside_cycles(graph, judged)
        graph.remove_edges_from([pair[:2] for pair in contradicted])
        cut += contradicted
    return cut


def _inside_cycles(graph: nx.DiGraph, pairs: Iterable[Overlap]) -> list[Overlap]:
    """Those of the graph's pairs that are part of a cycle: either end can be reached from the other."""
    component = {node: number for number, nodes in enumerate(nx.strongly_connected_components(graph)) for node in nodes}
    return [pair for pair in pairs if component[pair.covering] == component[pair.covered]]

"""Who lies on whom in an image, for others: an entry of `order.json`, and the same as GraphML."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np

from sognet_jax.order.layers import order_layers, strongest_first
from sognet_jax.scene import Overlap


def order_entry(file_name: str, instances: Sequence[Mapping[str, Any]], relations: np.ndarray) -> dict[str, Any]:
    """What `order.json` says of an image.

    Args:
        instances: `id`, and what else is to stand there (`category`, `score`), of the n instances.
        relations: `[n, n]` O; from 0.5 at (i, j) on, i is covered by j. Errors are those of `order_layers`.

    Returns:
        `instances`, each with its `layer` (0 at the back), the ids that it is `covered_by` and `covers` directly, and
        those to `lift_first`, which lie on it or on what lies on it; `overlaps`, all pairs; `top`, the ids that nothing
        lies on; those `without_relations`, of which no pair says anything; `cycles_cut`, the pairs that were left out
        of all but `overlaps`.
    """
    order = order_layers([instance['id'] for instance in instances], relations)
    graph, layer_of = order.graph, {one: number for number, layer in enumerate(order.layers) for one in layer}
    kept = itertools.starmap(Overlap, graph.edges(data='strength'))
    described = [
        {
            **instance,
            'layer': layer_of[instance['id']],
            'covered_by': sorted(graph.predecessors(instance['id'])),
            'covers': sorted(graph.successors(instance['id'])),
            'lift_first': sorted(nx.ancestors(graph, instance['id'])),
        }
        for instance in instances
    ]
    return {
        'file_name': file_name,
        'instances': described,
        'overlaps': [overlap.to_dict() for overlap in strongest_first([*kept, *order.cut])],
        'top': sorted(one for one, covering in graph.in_degree if covering == 0),
        'without_relations': order.without_relations,
        'cycles_cut': [overlap.to_dict() for overlap in order.cut],
    }


def encode_graph(entry: Mapping[str, Any]) -> str:
    """An entry as GraphML: the instances as nodes, an edge from the covering to the covered one for each pair.

    Nodes have `category`, `score` (those that the entry has) and `layer`, edges their `strength` and whether the pair
    was `cut` from a cycle.
    """
    graph = nx.DiGraph(file_name=entry['file_name'])
    for one in entry['instances']:
        graph.add_node(one['id'], **{name: one[name] for name in ('category', 'score', 'layer') if name in one})
    for pair in entry['overlaps']:
        cut = pair in entry['cycles_cut']
        graph.add_edge(pair['covering'], pair['covered'], strength=pair['strength'], cut=cut)
    return '\n'.join(nx.generate_graphml(graph))

"""Layers of made-up relations: against networkx where there is no cycle, and what holds for any relations."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sognet_jax.order.layers import LayerOrder, order_layers
from sognet_jax.scene import Overlap


@st.composite
def relations(draw):
    """`[n, n]` O of few strengths, so that many are equal, some too weak, some both ways."""
    number = draw(st.integers(0, 7))
    values = draw(st.lists(st.sampled_from([0, 0, 0.3, 0.5, 0.6, 0.9]), min_size=number**2, max_size=number**2))
    matrix = np.array(values, np.float64).reshape(number, number)
    np.fill_diagonal(matrix, 0)
    return matrix


def layer_of(order: LayerOrder) -> dict[int, int]:
    return {instance: number for number, layer in enumerate(order.layers) for instance in layer}


@given(relations())
@settings(max_examples=200, deadline=None)
def test_every_kept_pair_is_respected_and_no_pair_is_lost(matrix):
    order = order_layers(range(len(matrix)), matrix)
    layers = layer_of(order)
    assert sorted(layers) == list(range(len(matrix)))
    assert all(layers[covering] > layers[covered] for covering, covered in order.graph.edges)
    kept = {(covering, covered, data['strength']) for covering, covered, data in order.graph.edges(data=True)}
    expected = {(j, i, matrix[i, j]) for i in range(len(matrix)) for j in range(len(matrix)) if matrix[i, j] >= 0.5}
    assert kept | {tuple(pair) for pair in order.cut} == expected and len(kept) + len(order.cut) == len(expected)


@given(relations())
@settings(max_examples=200, deadline=None)
def test_a_layer_is_as_far_back_as_what_it_covers_lets_it(matrix):
    order = order_layers(range(len(matrix)), matrix)
    layers = layer_of(order)
    for instance, layer in layers.items():
        assert layer == max((layers[covered] + 1 for covered in order.graph.successors(instance)), default=0)


@given(relations())
@settings(max_examples=200, deadline=None)
def test_a_pair_is_cut_if_and_only_if_it_is_the_weakest_of_a_cycle_that_is_left(matrix):
    """Without regard to numbers: a cycle of the pair, stronger ones that are kept, and ones as strong as itself."""
    order = order_layers(range(len(matrix)), matrix)
    all_pairs = [Overlap(int(j), int(i), matrix[i, j]) for i, j in np.argwhere(matrix >= 0.5)]
    cut = set(order.cut)
    for pair in all_pairs:
        rest = [one[:2] for one in all_pairs if one.strength == pair.strength or one not in cut]
        graph = nx.DiGraph(
            [edge for edge in rest if matrix[edge[1], edge[0]] >= pair.strength] + [(pair.covering, pair.covered)]
        )
        assert (pair in cut) == nx.has_path(graph, pair.covered, pair.covering)


@given(relations(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_numbers_and_their_order_change_nothing(matrix, random):
    """The same instances under other ids, listed in another order."""
    places = list(range(len(matrix)))
    random.shuffle(places)
    new_ids = random.sample(range(100), len(matrix))
    before, after = order_layers(places, matrix[np.ix_(places, places)]), order_layers(new_ids, matrix)
    assert [sorted(new_ids[old] for old in layer) for layer in before.layers] == after.layers
    renamed = {(new_ids[pair.covering], new_ids[pair.covered], pair.strength) for pair in before.cut}
    assert renamed == {tuple(pair) for pair in after.cut}
    assert sorted(new_ids[old] for old in before.without_relations) == after.without_relations


@given(relations())
@settings(max_examples=200, deadline=None)
def test_without_cycles_layers_are_networkx_s_topological_generations(matrix):
    matrix = np.triu(matrix)
    order = order_layers(range(len(matrix)), matrix)
    graph = nx.from_numpy_array(matrix >= 0.5, create_using=nx.DiGraph)
    assert order.cut == [] and order.layers == [sorted(layer) for layer in nx.topological_generations(graph)]


def test_the_weakest_pair_of_a_cycle_is_cut_and_no_more():
    """4 lies on 5, 5 on 6, 6 on 4, which is the weakest; 7 lies on 4; nothing is known of 8."""
    matrix = np.zeros((5, 5))
    matrix[1, 0], matrix[2, 1], matrix[0, 2], matrix[0, 3] = 0.9, 0.8, 0.6, 0.5
    order = order_layers([4, 5, 6, 7, 8], matrix)
    assert order.layers == [[6, 8], [5], [4], [7]] and order.cut == [(6, 4, 0.6)]
    assert order.without_relations == [8]


def test_of_a_cycle_of_equals_all_are_cut():
    """Who covers whom in turn, with nothing to choose between: they lie beside each other, but not unrelated."""
    matrix = np.roll(np.eye(3), 1, axis=1)
    order = order_layers([1, 2, 3], matrix)
    assert order.layers == [[1, 2, 3]] and len(order.cut) == 3 and order.without_relations == []


def test_a_pair_that_covers_each_other_keeps_the_stronger_direction():
    order = order_layers([1, 2], np.array([[0, 0.7], [0.8, 0]]))
    assert order.layers == [[2], [1]] and order.cut == [(2, 1, 0.7)]


def test_many_instances_that_all_contradict_each_other():
    """Far more pairs in cycles than any image has; it takes a second."""
    order = order_layers(range(60), np.random.default_rng(0).uniform(size=(60, 60)))
    assert nx.is_directed_acyclic_graph(order.graph) and len(order.cut) > 500


def test_ids_and_relations_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r'relations \[2, 2\] of 3 instances'):
        order_layers([1, 2, 3], np.zeros((2, 2)))
    with pytest.raises(ValueError, match='1 of them different'):
        order_layers([1, 1], np.zeros((2, 2)))

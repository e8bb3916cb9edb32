"""What `order.json` says of an image, against what was put into it."""

import json

import networkx as nx
import numpy as np

from sognet_jax.order.entry import encode_graph, order_entry


def test_an_image_with_all_kinds_of_relations():
    """Ids from the front: 30 on 20 on 10, 30 on 10; 40 and 50 on each other; 60 alone."""
    ids = [10, 20, 30, 40, 50, 60]
    relations = np.zeros((6, 6), np.float32)
    relations[0, 1], relations[1, 2], relations[0, 2] = 0.9, 0.75, 0.5
    relations[3, 4], relations[4, 3] = 0.7, 0.60001
    relations[5, 0] = 0.49999
    instances = [{'id': id_, 'category': 'cup', 'score': 0.5} for id_ in ids]
    entry = order_entry('a.jpg', instances, relations)
    assert entry == json.loads(json.dumps(entry))
    described = {instance['id']: instance for instance in entry['instances']}
    common = {'category': 'cup', 'score': 0.5}
    assert described[10] == common | {
        'id': 10,
        'layer': 0,
        'covered_by': [20, 30],
        'covers': [],
        'lift_first': [20, 30],
    }
    assert described[20] == common | {'id': 20, 'layer': 1, 'covered_by': [30], 'covers': [10], 'lift_first': [30]}
    assert described[30] == common | {'id': 30, 'layer': 2, 'covered_by': [], 'covers': [10, 20], 'lift_first': []}
    assert described[40] == common | {'id': 40, 'layer': 0, 'covered_by': [50], 'covers': [], 'lift_first': [50]}
    assert [pair['strength'] for pair in entry['overlaps']] == [0.9, 0.75, 0.7, 0.6, 0.5]
    assert entry['overlaps'][0] == {'covering': 20, 'covered': 10, 'strength': 0.9}
    assert entry['cycles_cut'] == [{'covering': 40, 'covered': 50, 'strength': 0.6}]
    assert entry['top'] == [30, 50, 60] and entry['without_relations'] == [60] and entry['file_name'] == 'a.jpg'


def test_what_has_to_be_lifted_first_lies_on_it_or_on_what_lies_on_it():
    relations = np.diag([0.9] * 4, 1)
    described = order_entry('a.jpg', [{'id': id_} for id_ in range(5)], relations)['instances']
    assert [instance['lift_first'] for instance in described] == [[1, 2, 3, 4], [2, 3, 4], [3, 4], [4], []]
    assert [instance['covered_by'] for instance in described] == [[1], [2], [3], [4], []]


def test_graphml_as_networkx_reads_it(tmp_path):
    """Two on each other, the stronger direction kept, and one alone."""
    relations = np.zeros((3, 3))
    relations[0, 1], relations[1, 0] = 0.9, 0.6
    instances = [{'id': id_, 'category': 'a <&> b', 'score': 0.25} for id_ in (3, 4, 5)]
    (tmp_path / 'graph').write_text(encode_graph(order_entry('ä "1".jpg', instances, relations)))
    graph = nx.read_graphml(tmp_path / 'graph', node_type=int)
    assert graph.is_directed() and graph.graph['file_name'] == 'ä "1".jpg'
    assert graph.nodes[4] == {'category': 'a <&> b', 'score': 0.25, 'layer': 1} and set(graph) == {3, 4, 5}
    edges = {(4, 3): {'strength': 0.9, 'cut': False}, (3, 4): {'strength': 0.6, 'cut': True}}
    assert {(start, end): data for start, end, data in graph.edges(data=True)} == edges


def test_graphml_of_instances_without_scores():
    graph = nx.parse_graphml(encode_graph(order_entry('a.jpg', [{'id': 3, 'category': 'cup'}], np.zeros((1, 1)))))
    assert graph.nodes['3'] == {'category': 'cup', 'layer': 0}


def test_an_image_without_instances():
    empty = order_entry('a.jpg', [], np.zeros((0, 0)))
    assert empty.pop('file_name') == 'a.jpg' and set(map(str, empty.values())) == {'[]'}

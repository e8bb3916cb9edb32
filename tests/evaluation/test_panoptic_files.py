"""Panoptic quality from files: the official numbers, in any number of processes."""

import dataclasses
import json
import zlib

import numpy as np
import pytest

from benchmarks import panoptic_peers
from sognet_jax.categories import COCO
from sognet_jax.evaluation.panoptic_files.entries import read_pairs
from sognet_jax.evaluation.panoptic_files.scoring import evaluate_files, match_pair, read_ids
from sognet_jax.evaluation.panoptic_files.summary import panoptic_file_metrics
from sognet_jax.evaluation.panoptic_quality import PanopticCounts, match_segments
from sognet_jax.id_maps import color_ids
from sognet_jax.problems import InputError
from tests.support import golden_files
from tests.support.panoptic_folder import CATEGORIES, IDS, Folder, random_folder, write_ids
from tests.support.panoptic_quality import OFFICIAL_ORDER, AddedInParts, columns, segments


def counted_in_memory(images, num_categories):
    total = PanopticCounts.zeros(num_categories)
    for image in images:
        total += match_segments(*image).counts(num_categories)
    return total


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(columns(first), columns(second), strict=True))


@golden_files.parametrize('pq_')
def test_golden_images_from_files(golden_path, tmp_path):
    golden, expected = golden_files.load(golden_path), json.loads(golden_path.with_suffix('.json').read_text())
    count = len(golden['gt_segments'])
    maps = [
        (golden['gt'][i], golden['pred'][i]) if 'gt' in golden else (golden[f'gt{i}'], golden[f'pred{i}'])
        for i in range(count)
    ]
    categories = [
        {'id': COCO.all[index].id, 'name': COCO.all[index].name, 'isthing': int(index >= COCO.num_stuff)}
        for index in OFFICIAL_ORDER
    ]
    folder, images = Folder(tmp_path, categories), []
    for index, (truth, prediction) in enumerate(maps):
        rows, predicted_rows = golden['gt_segments'][index], golden['pred_segments'][index]
        folder.add(index, truth, rows[rows[:, 0] >= 0], prediction, predicted_rows[predicted_rows[:, 0] >= 0])
        images.append((truth, segments(rows), prediction, [row[:2] for row in segments(predicted_rows)]))
    counts = evaluate_files(folder.save()).counts
    in_memory = counted_in_memory(images, COCO.num_classes)
    for from_files, column in zip(columns(counts), columns(in_memory), strict=True):
        assert from_files.tolist() == column[OFFICIAL_ORDER].tolist()
    official = AddedInParts(counts, 2).summary()
    average = expected.get('perturbed', expected)['average']['All']
    assert {metric.lower(): value for metric, value in official.items()} == average


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_files_give_the_numbers_of_arrays_in_any_number_of_processes(workers, tmp_path):
    folder, images = random_folder(tmp_path, 40)
    evaluation = evaluate_files(folder.save(), workers=workers)
    expected = counted_in_memory(images, 4)
    assert same(evaluation.counts, expected) and evaluation.counts.summary() == expected.summary()
    assert evaluation.num_images == 40 and not evaluation.without_truth


def test_numbers_are_those_of_panopticapi_to_the_last_digit(tmp_path):
    official = pytest.importorskip(
        'panopticapi.evaluation', reason='needs panopticapi (pip install panopticapi-lite --no-deps)'
    )
    folder, _ = random_folder(tmp_path, 60)
    files = folder.save()
    truth, prediction = (json.loads(file.read_text()) for file in (files.truth_json, files.predicted_json))
    predicted = {entry['image_id']: entry for entry in prediction['annotations']}
    pairs = [(entry, predicted[entry['image_id']]) for entry in truth['annotations']]
    categories = {category['id']: category for category in truth['categories']}
    statistics = official.pq_compute_single_core(
        0, pairs, str(files.truth_folder), str(files.predicted_folder), categories
    )
    metrics = panoptic_file_metrics(evaluate_files(files))
    for name, is_thing in (('All', None), ('Things', True), ('Stuff', False)):
        average, by_category = statistics.pq_average(categories, is_thing)
        assert {key.lower(): value for key, value in metrics[name].items()} == average
        for category, values in by_category.items():
            assert {key: metrics['per_class'][str(category)][key.upper()] for key in values} == values
    for category in IDS:
        expected = statistics[category]
        row = metrics['per_class'][str(category)]
        assert [row[key] for key in ('iou', 'tp', 'fp', 'fn')] == [expected.iou, expected.tp, expected.fp, expected.fn]


@pytest.mark.parametrize(('peer', 'order'), [('hotcoco', 1), ('vernier', -1)])
def test_numbers_are_those_of_peers_to_the_last_digit(peer, order, tmp_path):
    """They add up the IoU of each image first, hotcoco in the order of the file, vernier in that of the image ids."""
    pytest.importorskip(peer, reason=f'needs {peer} (pip install -r requirements-peers.txt)')
    folder, images = random_folder(tmp_path, 60)
    files = folder.save()
    evaluation = evaluate_files(files)
    counts = dataclasses.replace(evaluation.counts, matches=evaluation.counts.matches[::order])
    expected = {
        'hotcoco': lambda: panoptic_peers.hotcoco(files),
        'vernier': lambda: panoptic_peers.vernier(panoptic_peers.vernier_inputs(files, len(images))),
    }[peer]()
    metrics = panoptic_file_metrics(dataclasses.replace(evaluation, counts=AddedInParts(counts, len(images))))
    for row in metrics['per_class'].values():
        del row['name'], row['isthing']
    assert metrics == expected


def test_areas_of_the_json_are_those_of_the_map_and_ids_without_a_segment_are_no_void(tmp_path):
    folder = Folder(tmp_path)
    truth = np.array([[5, 5, 5, 9]])
    folder.add(1, truth, [(5, 7, False), (6, 7, False)], np.full((1, 4), 2), [(2, 7)])
    counts = evaluate_files(folder.save()).counts
    assert [column[0] for column in columns(counts)] == [3 / 4, 1, 0, 1]


@pytest.mark.parametrize(
    ('index', 'area', 'counted'), [(0, 4, 'segment 5 has 3 pixels'), (1, 1.5, 'segment 6 has 0 pixels')]
)
def test_another_area_in_the_json_than_in_the_map_is_refused(index, area, counted, tmp_path):
    folder = Folder(tmp_path)
    folder.add(1, np.array([[5, 5, 5, 9]]), [(5, 7, False), (6, 7, False)], np.full((1, 4), 2), [(2, 7)])
    folder.truth['annotations'][0]['segments_info'][index]['area'] = area
    with pytest.raises(InputError) as error:
        evaluate_files(folder.save())
    place = f'{folder.files.truth_folder}/1.png (image 1)'
    assert str(error.value) == f'{place}: {counted}, its area in the JSON is {area}'


@pytest.mark.parametrize('workers', [0, 2])
def test_wrong_areas_of_many_images_come_at_once(workers, tmp_path):
    folder, images = random_folder(tmp_path, 40)
    expected = []
    for entry, (truth, true_segments, *_) in list(zip(folder.truth['annotations'], images, strict=True))[::3]:
        if true_segments:
            segment_id = true_segments[-1][0]
            pixels = int((truth == segment_id).sum())
            entry['segments_info'][-1]['area'] = pixels + 1
            place = f'{folder.files.truth_folder}/{entry["file_name"]} (image {entry["image_id"]})'
            text = f'segment {segment_id} has {pixels} pixels, its area in the JSON is {pixels + 1}'
            expected.append(f'{place}: {text}')
    with pytest.raises(InputError) as error:
        evaluate_files(folder.save(), workers=workers)
    assert [str(problem) for problem in error.value.problems] == expected and len(expected) > 8
    lines = str(error.value).splitlines()
    assert lines[:2] == [f'{len(expected)} problems:', f'area of another size ({len(expected)})']
    assert lines[-1] == f'  ... and {len(expected) - 5} more'


def test_which_segments_match_can_be_asked_for_one_image(tmp_path):
    folder, images = random_folder(tmp_path, 3)
    categories, pairs, _ = read_pairs(folder.save())
    assert [category.name for category in categories] == ['ball', 'road', 'box', '150']
    assert [pair.image_id for pair in pairs] == [1000, 999, 998]
    for pair, image in zip(pairs, images, strict=True):
        assert same(match_pair(pair).counts(4), match_segments(*image).counts(4))


def test_string_ids_and_segments_of_cityscapes(tmp_path):
    folder = Folder(tmp_path, [{'id': 7, 'name': 'road', 'isthing': 0}, {'id': 26, 'name': 'car', 'isthing': 1}])
    truth = np.repeat([[7, 26000, 26001, 0]], 4, axis=1).reshape(1, 16)
    image = (truth, [(7, 7, 0), (26000, 26, 0), (26001, 26, 0)], truth, [(7, 7), (26000, 26), (26001, 26)])
    folder.add('frankfurt_000000_000294', *image)
    folder.save()
    assert folder.command('--output', str(tmp_path / 'metrics.json'), '--workers', '1') == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['per_class']['26'] | {'tp': 2, 'PQ': 1.0, 'name': 'car'} == metrics['per_class']['26']


def test_ids_of_colours():
    ids = np.random.default_rng(0).integers(0, 2**24, (5, 7))
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    assert np.array_equal(color_ids(rgb), ids)


def test_table_and_json(tmp_path, capsys):
    folder, images = random_folder(tmp_path, 20)
    folder.prediction['annotations'] += [
        {'image_id': image_id, 'file_name': 'x.png', 'segments_info': []} for image_id in range(1, 9)
    ]
    folder.save()
    output = tmp_path / 'new' / 'metrics.json'
    assert folder.command('--output', str(output)) == 0
    metrics = json.loads(output.read_text())
    assert [path.name for path in output.parent.iterdir()] == ['metrics.json']
    expected = counted_in_memory(images, 4)
    summary = expected.summary()
    assert metrics['All'] == {key: summary[key] for key in ('PQ', 'SQ', 'RQ')} | {'N': 4}
    assert list(metrics['per_class']) == ['7', '3', '12', '150']
    assert metrics['per_class']['3']['name'] == 'road' and metrics['per_class']['3']['isthing'] == 0
    assert [metrics['per_class']['3'][key] for key in ('iou', 'tp', 'fp', 'fn')] == [
        column[1] for column in columns(expected)
    ]
    printed = capsys.readouterr().out
    assert f'{100 * summary["PQ"]:.1f}' in printed and 'road' in printed and '20 images' in printed
    assert 'ignored 8 predictions of images that have no ground truth: 1, 2, 3, 4, 5, and 3 more' in printed


def test_a_group_without_categories_has_no_numbers(tmp_path, capsys):
    folder = Folder(tmp_path, CATEGORIES[:1])
    ones = np.ones((2, 2), int)
    folder.add(1, ones, [(1, 7, False)], ones, [(1, 7)])
    folder.save()
    assert folder.command() == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith('Stuff'))
    assert line.split() == ['Stuff', '-', '-', '-', '0']


def test_a_png_with_a_transparent_colour_is_three_channels(tmp_path):
    path = tmp_path / 'map.png'
    ids = np.arange(12).reshape(3, 4) * 7000
    write_ids(path, ids)
    content = path.read_bytes()
    chunk = b'tRNS' + b'\0\0\0\0\0\1'
    inserted = len(chunk[4:]).to_bytes(4, 'big') + chunk + zlib.crc32(chunk).to_bytes(4, 'big')
    path.write_bytes(content[:33] + inserted + content[33:])
    assert np.array_equal(read_ids(path), ids)

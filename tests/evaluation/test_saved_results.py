"""Results as files: read again they are the same, pycocotools and the panoptic format's readers take them."""

import dataclasses
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sognet_jax.categories import CITYSCAPES, SHAPES
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.evaluation.instance_ap import Detections
from sognet_jax.evaluation.saved_results import ResultsWriter, public_image_id, read_results
from sognet_jax.evaluation.tally import ImageResult, Tally, image_truth
from sognet_jax.problems import InputError
from sognet_jax.report.contents import Extremes
from sognet_jax.scene import Scene, Segment

MAX_INSTANCES = 10


@pytest.fixture(scope='module')
def records():
    return [draw(ShapesSettings(), 1, index) for index in range(4)]


def perturbed(record, rng):
    """A result that is nearly the annotation: some instances are gone, ids are others, O is noise."""
    truth = image_truth(record, MAX_INSTANCES)
    kept = np.flatnonzero(rng.uniform(size=len(record.instances.id)) < 0.8)
    owners = np.array([int(record.instances.segment[row]) for row in kept], np.int64)
    ids, segments = np.zeros(record.size, np.int32), []
    for number, (segment, category, _) in enumerate(truth.segments, start=1):
        if category < SHAPES.num_stuff or segment in owners:
            ids[truth.ids == segment] = 7 * number
            segments.append((7 * number, category))
    things = [segment for segment, category in segments if category >= SHAPES.num_stuff]
    relations, true_relations = (
        np.triu(rng.uniform(size=(n, n)).astype(np.float32), 1) for n in (len(things), len(truth.related))
    )
    found = record.instances
    detections = Detections(
        found.category[kept], rng.uniform(size=len(kept)), found.box[kept] + 0.25, [found.rles[row] for row in kept]
    )
    found = [Segment(i, category, things.index(i) if i in things else -1) for i, category in segments]
    return ImageResult(Scene(SHAPES, ids, found, relations), true_relations, detections, None)


@pytest.fixture
def saved(records, tmp_path):
    """A folder of results, and the results."""
    rng = np.random.default_rng(0)
    results = [perturbed(record, rng) for record in records]
    writer = ResultsWriter(tmp_path / 'predictions', SHAPES)
    for record, result in zip(records, results, strict=True):
        writer.add(record, result)
    writer.finish()
    return tmp_path / 'predictions', results


def metrics(records, results):
    tally = Tally(SHAPES)
    for record, result in zip(records, results, strict=True):
        tally.add(image_truth(record, MAX_INSTANCES), result)
    return tally.metrics()


def test_results_that_are_read_again_have_the_same_metrics(records, saved):
    folder, results = saved
    again = list(read_results(folder, SHAPES, records, MAX_INSTANCES))
    assert [index for index, _, _ in again] == [0, 1, 2, 3]
    expected, found = metrics(records, results), metrics(records, [result for _, _, result in again])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_equal(found[name], value, err_msg=name)
    assert 10 < expected['PQ'] < 100


def test_what_was_saved_before_does_not_stay_beside_other_maps(records, saved):
    folder, results = saved
    ResultsWriter(folder, SHAPES).add(records[0], results[0])  # and ended before it had finished
    with pytest.raises(InputError, match=r'panoptic.json: is missing'):
        list(read_results(folder, SHAPES, records, MAX_INSTANCES))


def test_files_are_what_the_servers_take(records, saved):
    """The result formats of https://cocodataset.org/#format-results."""
    folder, results = saved
    panoptic = json.loads((folder / 'panoptic.json').read_text())
    assert panoptic.keys() == {'annotations'}
    for entry, result in zip(panoptic['annotations'], results, strict=True):
        assert entry.keys() == {'image_id', 'file_name', 'segments_info'}
        assert (folder / 'panoptic' / entry['file_name']).is_file()
        expected = [{'id': i, 'category_id': SHAPES.all[category].id} for i, category in result.scene.labels]
        assert entry['segments_info'] == expected
    truth = COCO()
    truth.dataset = {'images': [{'id': record.image_id} for record in records], 'annotations': [],
                     'categories': [{'id': category.id} for category in SHAPES.things]}  # fmt: skip
    truth.createIndex()
    loaded = truth.loadRes(str(folder / 'masks.json'))
    for record, result in zip(records, results, strict=True):
        mine = loaded.loadAnns(loaded.getAnnIds(imgIds=[record.image_id]))
        assert [entry['area'] for entry in mine] == coco_mask.area(result.detections.rles).tolist()
        by_box = truth.loadRes(str(folder / 'boxes.json')).loadAnns([entry['id'] for entry in mine])
        corners = np.array([entry['bbox'] for entry in by_box]).reshape(-1, 2, 2).cumsum(axis=1).reshape(-1, 4)
        np.testing.assert_allclose(corners, result.detections.box, atol=1e-4)
        assert [entry['category_id'] for entry in mine] == [SHAPES.things[i].id for i in result.detections.category]


def test_cityscapes_calls_its_images_by_name(records, tmp_path):
    record = dataclasses.replace(records[0], file_name='aachen_000000_000019_leftImg8bit.png')
    assert public_image_id(record) == 'aachen_000000_000019'
    ids = np.full(record.size, 26001)
    nothing = Detections(np.zeros(0, int), np.zeros(0), np.zeros((0, 4)), [])
    scene = Scene(CITYSCAPES, ids, [Segment(26001, CITYSCAPES.num_stuff, 0)], np.zeros((1, 1)))
    result = ImageResult(scene, None, nothing, None)
    writer = ResultsWriter(tmp_path, CITYSCAPES)
    writer.add(record, result)
    writer.finish()
    entry = json.loads((tmp_path / 'panoptic.json').read_text())['annotations'][0]
    assert entry['image_id'] == 'aachen_000000_000019' and entry['file_name'] == 'aachen_000000_000019.png'
    assert entry['segments_info'] == [{'id': 26001, 'category_id': CITYSCAPES.things[0].id}]
    ((_, _, again),) = read_results(tmp_path, CITYSCAPES, [record], MAX_INSTANCES)
    assert again.true_relations is None and again.scene.labels == [(26001, CITYSCAPES.num_stuff)]


BROKEN = {
    'no panoptic.json': (
        lambda folder: (folder / 'panoptic.json').unlink(),
        'predictions/panoptic.json: is missing\neval.py --save_predictions writes'),
    'no JSON': (lambda folder: (folder / 'masks.json').write_text('[{'), 'predictions/masks.json: is not valid JSON'),
    'another JSON': (
        lambda folder: (folder / 'overlaps.json').write_text('{}'),
        "predictions/overlaps.json: has no field 'images'"),
    'an image without a result': (
        lambda folder: (folder / 'panoptic.json').write_text('{"annotations": []}'),
        r'predictions, image (\d+) \(\1.png\): panoptic.json has none'),
    'a missing PNG': (
        lambda folder: next((folder / 'panoptic').iterdir()).unlink(),
        r'predictions, image (\d+) \(\1.png\): panoptic/\1.png is missing'),
    'a truncated PNG': (
        lambda folder: next((folder / 'panoptic').iterdir()).write_bytes(b'\x89PNG'),
        r'predictions, image (\d+) \(\1.png\): panoptic/\1.png is not a PNG'),
    'an unknown category': (
        lambda folder: [
            edit(folder / name, lambda c: c[0].update(category_id=999)) for name in ('masks.json', 'boxes.json')],
        r'predictions, image (\d+) \(\1.png\): category 999 of a detection is no thing of shapes'),
    'an unknown category of a segment': (
        lambda folder: edit(
            folder / 'panoptic.json', lambda c: c['annotations'][1]['segments_info'][0].update(category_id=999)),
        r'predictions, image (\d+) \(\1.png\): category 999 of segment \d+ is not in shapes'),
    'a detection without a category': (
        lambda folder: edit(folder / 'masks.json', lambda c: c[1].pop('category_id')),
        r"predictions/masks.json, detections\[1\], image \d+: has no field 'category_id'"),
    'a box of another detection': (
        lambda folder: edit(folder / 'masks.json', lambda c: c[2].update(score=0.5)),
        'predictions: entry 2 of masks.json and of boxes.json are different detections'),
    'a detection without a box': (
        lambda folder: edit(folder / 'boxes.json', lambda c: c.pop()),
        r'predictions: (\d+) detections in masks.json, (?!\1)\d+ in boxes.json'),
}  # fmt: skip


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize('name', BROKEN)
def test_broken_results_are_named(records, saved, name):
    breaks, message = BROKEN[name]
    breaks(saved[0])
    with pytest.raises(InputError, match=message):
        list(read_results(saved[0], SHAPES, records, MAX_INSTANCES))


def test_results_of_other_data_are_refused(records, saved):
    with pytest.raises(InputError, match=r'image .*: O of \d+ annotated instances, the data have \d+ .*max_instances'):
        list(read_results(saved[0], SHAPES, records, 2))
    larger = [dataclasses.replace(record, size=(200, 128)) for record in records]
    with pytest.raises(InputError, match=r'image (\d+) .*: panoptic/\1.png is 128 x 128 .*, the image 200 x 128'):
        list(read_results(saved[0], SHAPES, larger, MAX_INSTANCES))


def test_images_of_one_name_do_not_overwrite_each_other(records, tmp_path):
    rng = np.random.default_rng(1)
    twins = [dataclasses.replace(record, file_name='0001.jpg') for record in records[:2]]
    results = [perturbed(record, rng) for record in twins]
    writer = ResultsWriter(tmp_path, SHAPES)
    for record, result in zip(twins, results, strict=True):
        writer.add(record, result)
    writer.finish()
    again = [result for _, _, result in read_results(tmp_path, SHAPES, twins, MAX_INSTANCES)]
    for mine, theirs in zip(again, results, strict=True):
        np.testing.assert_array_equal(mine.scene.panoptic, theirs.scene.panoptic)


@pytest.mark.parametrize('share', [[0, 2], [3, 1], []])
def test_what_two_hosts_count_and_save_adds_up_to_what_one_does_to_the_last_digit(records, tmp_path, share):
    rng = np.random.default_rng(2)
    results = [perturbed(record, rng) for record in records]
    shares = (share, [index for index in range(4) if index not in share])
    tallies, extremes, writers = [], [], []
    for folder, indices in (('one', range(4)), *(('two', indices) for indices in shares)):
        tallies.append(Tally(SHAPES))
        extremes.append(Extremes(2, SHAPES.num_classes))
        writers.append(ResultsWriter(tmp_path / folder, SHAPES))
        for index in indices:
            truth = image_truth(records[index], MAX_INSTANCES)
            extremes[-1].add(index, truth, results[index], tallies[-1].add(truth, results[index]))
            writers[-1].add(records[index], results[index])
    for _, first, second in (tallies, extremes, writers):
        first += second
    for writer in writers[:2]:
        writer.finish()
    np.testing.assert_equal(tallies[1].metrics(), tallies[0].metrics())
    for side in ('worst', 'best'):
        found, expected = ([one.index for one in getattr(of, side)] for of in (extremes[1], extremes[0]))
        assert found == expected
    for name in ('panoptic.json', 'masks.json', 'boxes.json', 'overlaps.json'):
        assert (tmp_path / 'two' / name).read_bytes() == (tmp_path / 'one' / name).read_bytes()

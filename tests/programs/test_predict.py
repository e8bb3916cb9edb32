"""Prediction for drawn images: files that agree, both orientations, errors before anything is written."""

import json
import pathlib
import re

import cv2
import networkx as nx
import numpy as np
import pyora
import pytest
from pycocotools.coco import COCO

from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import CheckpointError
from sognet_jax.data.records.images import ImageError
from sognet_jax.data.sources.shapes.composition import SceneSettings, draw_scene
from sognet_jax.id_maps import decode_ids
from sognet_jax.pictures.prediction import prediction_picture
from sognet_jax.predictor import predictor
from sognet_jax.predictor.results import image_ids
from sognet_jax.programs import predict
from sognet_jax.programs.predict import FORMATS, predict_images
from sognet_jax.scene import Scene, Segment
from tests.support.examples import tiny_config
from tests.support.runs import save_fresh_run

pytestmark = pytest.mark.compiles

SIZES = {'across': (90, 150), 'upright': (150, 90), 'square': (64, 64), 'small': (40, 64)}


@pytest.fixture(scope='module')
def config():
    config = tiny_config()
    config.data.image_size = (64, 96)
    config.data.long_side = 96
    config.inference.score_threshold = 0.02  # so that fresh parameters find something
    config.inference.stuff_area_limit = 4
    return config


@pytest.fixture(scope='module')
def run(config, tmp_path_factory):
    """The folder of a run with a checkpoint of fresh parameters."""
    return save_fresh_run(config, tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of drawn scenes."""
    folder = tmp_path_factory.mktemp('images')
    for seed, (name, size) in enumerate(SIZES.items()):
        record = draw_scene(np.random.default_rng(seed), SceneSettings(size=size, max_instances=4), seed)
        suffix = '.jpg' if seed % 2 else '.png'
        assert cv2.imwrite(str(folder / f'{name}{suffix}'), record.image()[..., ::-1])
    return folder


@pytest.fixture(scope='module')
def results(config, run, images, tmp_path_factory):
    """The folder of results, and how often a program was traced."""
    output = tmp_path_factory.mktemp('results') / 'new' / 'folder'
    traced = []

    def counted(network, image, *arguments):
        traced.append(image.shape)
        return original(network, image, *arguments)

    original = predictor.predict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, 'predict', counted)
        predict_images(config, run, output, [images], FORMATS)
    return output, traced


def test_every_image_has_its_files_and_nothing_else_is_left(results, images):
    output, _ = results
    entries = json.loads((output / 'predictions.json').read_text())['images']
    assert [entry['file'] for entry in entries] == sorted(str(path) for path in images.iterdir())
    written = {str(path.relative_to(output)) for path in output.rglob('*') if path.is_file()}
    of_images = {entry[kind] for entry in entries for kind in ('panoptic', 'picture', 'graphml', 'ora')}
    assert written == {'predictions.json', 'order.json', 'coco_results.json'} | of_images
    assert len(of_images) == 4 * len(entries)
    for entry in entries:
        assert cv2.imread(str(output / entry['picture'])).std() > 10


def test_json_and_png_agree_and_have_the_image_s_own_size(results):
    output, _ = results
    names = {category.name for category in SHAPES.all}
    found = 0
    for entry in json.loads((output / 'predictions.json').read_text())['images']:
        ids = decode_ids((output / entry['panoptic']).read_bytes())
        name = entry['panoptic'].split('/')[-1].split('.')[0]
        assert ids.shape == SIZES[name] == (entry['height'], entry['width'])
        assert set(np.unique(ids).tolist()) - {0} == {segment['id'] for segment in entry['segments']}
        for segment in entry['segments']:
            rows, columns = np.nonzero(ids == segment['id'])
            assert segment['area'] == len(rows)
            assert segment['box'] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert segment['class'] in names
            assert (0.02 < segment['score'] <= 1) if segment['thing'] else segment['score'] is None
        things = {segment['id'] for segment in entry['segments'] if segment['thing']}
        found += len(things)
        for overlap in entry['overlaps']:
            assert {overlap['covering'], overlap['covered']} <= things and 0 < overlap['strength'] <= 1
    assert found


def test_all_formats_say_the_same_of_who_lies_on_whom(results):
    """GraphML as networkx reads it, OpenRaster as pyora reads it, `order.json` and `predictions.json`."""
    output, _ = results
    orders = json.loads((output / 'order.json').read_text())['images']
    entries = json.loads((output / 'predictions.json').read_text())['images']
    for entry, order in zip(entries, orders, strict=True):
        assert order['file_name'] == entry['file'].split('/')[-1]
        things = [segment for segment in entry['segments'] if segment['thing']]
        assert [(thing['id'], thing['class'], thing['score']) for thing in things] == [
            (instance['id'], instance['category'], instance['score']) for instance in order['instances']
        ]
        assert order['overlaps'] == [pair for pair in entry['overlaps'] if pair['strength'] >= 0.5]
        graph = nx.read_graphml(output / entry['graphml'], node_type=int)
        layers = {instance['id']: instance['layer'] for instance in order['instances']}
        assert dict(graph.nodes(data='layer')) == layers
        assert set(graph.edges) == {(pair['covering'], pair['covered']) for pair in order['overlaps']}
        opened = list(pyora.Project.load(output / entry['ora']).iter_layers)
        named = [f'{instance["category"]} {instance["score"]:.2f}' for instance in order['instances']]
        assert opened[0].name == 'background' and sorted(layer.name for layer in opened[1:]) == sorted(named)


def test_coco_results_are_read_by_pycocotools_and_overlap(results):
    output, _ = results
    orders = json.loads((output / 'order.json').read_text())['images']
    truth = COCO()
    truth.dataset = {
        'images': [{'id': name, 'height': height, 'width': width} for name, (height, width) in SIZES.items()],
        'annotations': [],
        'categories': [{'id': category.id, 'name': category.name} for category in SHAPES.things],
    }
    truth.createIndex()
    found = truth.loadRes(str(output / 'coco_results.json'))
    union, total = 0, 0
    for order in orders:
        name = order['file_name'].split('.')[0]
        annotations = found.loadAnns(found.getAnnIds(imgIds=[name]))
        assert [(one['segment_id'], one['layer'], one['score']) for one in annotations] == [
            (instance['id'], instance['layer'], instance['score']) for instance in order['instances']
        ]
        names = [category['name'] for category in found.loadCats([one['category_id'] for one in annotations])]
        assert names == [instance['category'] for instance in order['instances']]
        masks = np.array([found.annToMask(one) for one in annotations]).reshape(-1, *SIZES[name])
        assert [one['area'] for one in annotations] == masks.sum(axis=(1, 2)).tolist()
        union, total = union + masks.any(axis=0).sum(), total + masks.sum()
    assert union < total


def scene(relations):
    """Three instances side by side on a stuff."""
    ids = np.ones((60, 90), np.int32)
    for slot in range(3):
        ids[20:40, 30 * slot + 5 : 30 * slot + 25] = 5 + slot
    segments = [Segment(1, 0, -1)] + [Segment(5 + slot, SHAPES.num_stuff + slot, slot, 0.5) for slot in range(3)]
    return Scene(SHAPES, ids, segments, relations, np.zeros((60, 90, 3), np.uint8), prediction_picture)


def test_usually_there_are_json_and_pictures(config, images, tmp_path, monkeypatch):
    """Of a network that always says the same: the second instance lies on the first, the third on the second."""
    monkeypatch.setattr(predict, 'Predictor', lambda *_: lambda image: scene(np.diag([0.75, 0.5], 1)))
    predict_images(config, tmp_path, tmp_path / 'results', [images / 'across.png'])
    written = {str(path.relative_to(tmp_path / 'results')) for path in tmp_path.rglob('*') if path.is_file()}
    assert written == {'predictions.json', 'order.json', 'panoptic/across.png', 'pictures/across.png'}
    (order,) = json.loads((tmp_path / 'results' / 'order.json').read_text())['images']
    assert order['top'] == [7] and [instance['layer'] for instance in order['instances']] == [0, 1, 2]
    assert [instance['lift_first'] for instance in order['instances']] == [[6, 7], [7], []]
    with pytest.raises(ValueError, match="--formats must be 'json' or 'picture' .* not 'psd'"):
        predict_images(config, tmp_path, tmp_path / 'other', [images], ['json', 'psd'])
    assert not (tmp_path / 'other').exists()
    predict_images(config, tmp_path, tmp_path / 'results', [images / 'square.png'], ['picture'])
    assert not (tmp_path / 'results' / 'order.json').exists(), 'it would be of another image'


def test_images_of_coco_are_called_by_their_numbers():
    paths = [pathlib.Path(name) for name in ('000000000042.jpg', '7.png')]
    assert image_ids(paths) == [42, 7]
    assert image_ids([*paths, pathlib.Path('cat.jpg')]) == ['000000000042', '7', 'cat']
    assert image_ids([*paths, pathlib.Path('07.jpg')]) == ['000000000042', '7', '07']


def test_there_is_one_program_for_each_orientation(results):
    _, traced = results
    assert sorted(traced) == [(1, 64, 96, 3), (1, 96, 64, 3)]


@pytest.mark.parametrize('broken', ['missing', 'folder', 'unreadable', 'truncated', 'narrow', 'twins', 'control\x01'])
def test_a_bad_image_is_named_before_anything_is_written(config, run, images, tmp_path, broken):
    path = tmp_path / f'{broken}.png'
    content = (images / 'across.png').read_bytes()
    if broken == 'folder':
        path = tmp_path
    elif broken == 'unreadable':
        path.write_bytes(b'no image')
    elif broken == 'truncated':
        path.write_bytes(content[: len(content) // 2])
    elif broken == 'narrow':
        cv2.imwrite(str(path), np.zeros((1000, 3, 3), np.uint8))
    elif broken == 'twins':
        path = tmp_path / 'across.png'
        path.write_bytes(content)
    elif broken == 'control\x01':
        path.write_bytes(content)
    with pytest.raises(ImageError, match=re.escape(str(path).replace('\x01', '\\x01'))):
        predict_images(config, run, tmp_path / 'results', [images, path])
    assert not (tmp_path / 'results').exists()


def test_a_wrong_checkpoint_or_output_is_named_before_anything_is_written(config, run, images, tmp_path):
    output = tmp_path / 'results'
    with pytest.raises(CheckpointError, match=f'no checkpoint in {tmp_path}'):
        predict_images(config, tmp_path, output, [images])
    other = config.copy_and_resolve_references()
    other.model.box.features = 24
    with pytest.raises(CheckpointError, match='checkpoints/3 is of another network'):
        predict_images(other, run, output, [images])
    assert not output.exists()
    output.write_text('a file')
    with pytest.raises(NotADirectoryError, match='results'):
        predict_images(config, run, output, [images])


@pytest.mark.parametrize('size', [(480, 640), (1500, 900), (32, 640), (640, 32), (9, 9)])
@pytest.mark.parametrize('number', [0, 1, 40])
def test_pictures_of_every_shape_with_any_number_of_instances(size, number):
    rng = np.random.default_rng(0)
    ids = np.ones(size, np.int32)
    segments = [Segment(1, 0, -1)]
    for slot in range(number):
        y, x = rng.integers(0, size)
        ids[y : y + 20, x : x + 20] = 5 + slot
        segments.append(Segment(5 + slot, SHAPES.num_stuff + slot % 3, slot, 0.5))
    relations = np.triu(rng.uniform(size=(number, number)), 1)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    picture = prediction_picture(image, Scene(SHAPES, ids, segments, relations))
    assert picture.dtype == np.uint8 and max(picture.shape) < 3000

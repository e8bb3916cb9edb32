"""Prediction for drawn images: files that agree, both orientations, errors before anything is written."""

import json

import cv2
import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import CheckpointError
from sognet_jax.data.records.images import ImageError
from sognet_jax.data.sources.shapes.composition import SceneSettings, draw_scene
from sognet_jax.id_maps import decode_ids
from sognet_jax.pictures.prediction import prediction_picture
from sognet_jax.predictor import predictor
from sognet_jax.programs.predict import predict_images
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
        predict_images(config, run, output, [images])
    return output, traced


def test_every_image_has_its_files_and_nothing_else_is_left(results, images):
    output, _ = results
    entries = json.loads((output / 'predictions.json').read_text())['images']
    assert [entry['file'] for entry in entries] == sorted(str(path) for path in images.iterdir())
    written = {str(path.relative_to(output)) for path in output.rglob('*') if path.is_file()}
    assert written == {'predictions.json'} | {entry[kind] for entry in entries for kind in ('panoptic', 'picture')}
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


def test_there_is_one_program_for_each_orientation(results):
    _, traced = results
    assert sorted(traced) == [(1, 64, 96, 3), (1, 96, 64, 3)]


@pytest.mark.parametrize('broken', ['missing', 'folder', 'unreadable', 'truncated', 'narrow', 'twins'])
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
    with pytest.raises(ImageError, match=str(path)):
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

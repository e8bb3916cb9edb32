"""The program that shows a data set: the right examples, as they are, and errors before anything is written."""

import json

import cv2
import numpy as np
import pytest

from sognet_jax.configs import coco_mini, shapes
from sognet_jax.data.configured import prepare_split, training_source
from sognet_jax.programs.browse import browse, plain_examples, training_examples


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    config = shapes.get_config()
    config.batch_size = 4
    config.data.dir = str(tmp_path_factory.mktemp('data'))
    config.data.num_train, config.data.num_validation = 12, 5
    return config


def test_examples_say_rightly_whether_they_are_mirrored(config):
    source = training_source(config)
    image_of = {source[index].image_id: source[index].image() for index in range(len(source))}
    seen = []
    for _, example in zip(range(16), training_examples(config, source), strict=False):
        image = image_of[int(example['image_id'])]
        np.testing.assert_array_equal(example['image'], image[:, ::-1] if example['mirrored'] else image)
        seen.append(bool(example['mirrored']))
    assert 2 < sum(seen) < 14


def test_another_split_is_shown_in_its_order_as_it_is(config):
    source = prepare_split(config, 'validation')
    examples = list(plain_examples(config, source))
    assert [int(example['image_id']) for example in examples] == [source[index].image_id for index in range(5)]
    for example, index in zip(examples, range(5), strict=True):
        np.testing.assert_array_equal(example['image'], source[index].image())
        assert not example['mirrored']


@pytest.mark.parametrize(('split', 'images'), [(None, 12), ('train', 12), ('validation', 5)])
def test_pictures_and_statistics_are_written(config, tmp_path, capsys, split, images):
    browse(config, tmp_path / 'out', count=3, split=split)
    pictures = sorted((tmp_path / 'out' / 'examples').iterdir())
    assert len(pictures) == 3 and all(cv2.imread(str(path)) is not None for path in pictures)
    numbers = json.loads((tmp_path / 'out' / 'statistics.json').read_text())
    assert numbers['images']['all'] == images
    assert cv2.imread(str(tmp_path / 'out' / 'statistics.png')) is not None
    assert 'overlapping pairs (R)' in capsys.readouterr().out


def test_what_cannot_be_shown_is_refused_before_anything_is_written(config, tmp_path):
    with pytest.raises(ValueError, match=r"'train', 'validation'.*'test'"):
        browse(config, tmp_path / 'out', split='test')
    with pytest.raises(ValueError, match='config field data.source is empty'):
        browse(coco_mini.get_config(), tmp_path / 'out')
    missing = coco_mini.get_config()
    missing.data.source, missing.data.dir = str(tmp_path / 'nowhere'), str(tmp_path / 'data')
    with pytest.raises(ValueError, match='nowhere'):
        browse(missing, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotADirectoryError, match='file: the results need a folder'):
        browse(config, tmp_path / 'file')

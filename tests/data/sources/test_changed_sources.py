"""A prepared copy and its source: what has changed is prepared again, what is partial or without a source is said."""

import json
import os
import shutil

import pytest

from sognet_jax.category_files import read_categories
from sognet_jax.data.configured import prepare_split
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.coco.builder import preparation
from sognet_jax.data.sources.preparation import prepare
from sognet_jax.problems import InputError
from tests.support.coco_source import SPLIT, write_source
from tests.support.examples import tiny_config


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / 'source')


def prepared(source, **options):
    categories = read_categories(source / 'categories.json')
    folder = prepare(preparation(source, SPLIT, categories), source.parent / 'data', workers=0, **options).folder
    return folder, RecordSource(folder, SPLIT)


def test_repainted_files_are_prepared_again_and_the_older_copy_is_named(source, capfd):
    folder, before = prepared(source)
    assert prepared(source)[0] == folder and 'older' not in capfd.readouterr().err
    image = source / SPLIT / '000.png'
    image.write_bytes((source / SPLIT / '001.png').read_bytes())
    again, after = prepared(source)
    assert again != folder and after[0].image_bytes != before[0].image_bytes
    assert f'{folder} is older than its source' in capfd.readouterr().err
    png = source / 'annotations' / f'panoptic_{SPLIT}' / '000.png'
    os.utime(png, ns=(1, 1))
    assert prepared(source)[0] not in (folder, again)


def test_an_image_that_was_left_out_and_arrives_is_prepared(source, capfd):
    missing = source / SPLIT / '001.png'
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(InputError, match='001.png, image 2: is missing'):
        prepared(source)
    _, partial = prepared(source, leave_out_broken=True)
    assert len(partial) == 1 and partial.left_out == 1
    config = tiny_config()
    config.categories, config.data.name = str(source / 'categories.json'), 'coco_format'
    config.data.source, config.data.dir = str(source), str(source.parent / 'data')
    capfd.readouterr()
    assert len(prepare_split(config, SPLIT)) == 1
    assert f'{partial.folder} is not the whole of its source: 1 problems were left out' in capfd.readouterr().err
    missing.write_bytes(content)
    _, whole = prepared(source)
    assert len(whole) == 2 and whole.left_out == 0


def test_a_copy_whose_source_is_gone_is_used(source, capfd):
    folder, _ = prepared(source)
    shutil.rmtree(source / SPLIT)
    assert prepared(source)[0] == folder
    assert f'{folder} is used: its source is not there any more' in capfd.readouterr().err


def test_copies_of_other_sources_and_splits_are_not_taken_for_older_ones(source, capfd):
    prepared(source)
    other = write_source(source.parent / 'other', first=5)
    prepare(preparation(other, SPLIT, read_categories(other / 'categories.json')), source.parent / 'data', workers=0)
    assert 'older' not in capfd.readouterr().err


def test_masks_of_other_images_are_noticed(source):
    """One of the two annotations is of other images: image by image nothing is wrong."""
    path = source / 'annotations' / f'instances_{SPLIT}.json'
    content = json.loads(path.read_text())
    for entry in content['annotations']:
        entry['image_id'] = 3 - entry['image_id']
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match='4 of 4 instances have no segment of their class'):
        prepared(source, leave_out_broken=True)

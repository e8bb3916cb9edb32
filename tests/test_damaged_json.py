"""Files of results, predictions and checkpoints, damaged as hypothesis draws it: named, or as good as before."""

import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sognet_jax.categories import SHAPES
from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import CheckpointError, describe, require_same_network, save_variables, stored_config
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.evaluation.instance_ap import Detections
from sognet_jax.evaluation.panoptic_files.entries import PanopticFiles
from sognet_jax.evaluation.panoptic_files.scoring import evaluate_files
from sognet_jax.evaluation.saved_results import ResultsWriter, read_results
from sognet_jax.evaluation.tally import ImageResult, Tally, image_truth
from sognet_jax.json_files import read_json
from sognet_jax.json_schemas import TrueFile
from sognet_jax.problems import InputError
from sognet_jax.scene import Scene, Segment
from tests.support.damage import damages
from tests.support.examples import tiny_config
from tests.support.panoptic_folder import random_folder

QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def damaged(folder, data):
    """A copy of the folder with drawn damage, and its place."""
    other = folder.with_name('damaged')
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(folder, other)
    for name, content in data.draw(damages(files_in(folder))).items():
        (other / name).unlink()
        if content is not None:
            (other / name).write_bytes(content)
    return other


@pytest.fixture(scope='module')
def panoptic(tmp_path_factory):
    folder, _ = random_folder(tmp_path_factory.mktemp('panoptic') / 'sound', 3)
    return folder.save().truth_json.parent


def score(folder, data):
    other = damaged(folder, data)
    try:
        result = evaluate_files(PanopticFiles(*(other / name for name in ('gt.json', 'gt', 'pred.json', 'pred'))))
    except InputError as error:
        assert str(other) in str(error)
    else:
        assert 0 <= result.counts.summary()['PQ'] <= 1


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Two images whose annotations are their results."""
    folder = tmp_path_factory.mktemp('results') / 'sound'
    records = [draw(ShapesSettings(), 1, index) for index in range(2)]
    writer = ResultsWriter(folder, SHAPES)
    for record in records:
        found, rows = record.instances, np.arange(len(record.instances.id))
        segments = [
            Segment(int(i), int(c), int(np.argmax(found.segment == i)) if i in found.segment else -1)
            for i, c in zip(record.segments.id, record.segments.category, strict=True)
        ]
        relations = np.zeros((len(rows), len(rows)))
        detections = Detections(found.category, np.ones(len(rows)), found.box, found.rles)
        scene = Scene(SHAPES, record.panoptic_ids().astype(np.int32), segments, relations)
        related = len(image_truth(record, 10).related)
        writer.add(record, ImageResult(scene, np.zeros((related, related)), detections, None))
    writer.finish()
    return folder, records


def measure(results, data):
    folder, records = results
    other = damaged(folder, data)
    tally = Tally(SHAPES)
    try:
        for index, record, result in read_results(other, SHAPES, records, 10):
            tally.add(image_truth(records[index], 10), result)
            assert record is records[index]
    except InputError as error:
        assert str(other) in str(error)
    else:
        assert 0 <= tally.metrics()['PQ'] <= 100


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """What a checkpoint says of itself; its arrays have sums and tests of their own."""
    folder = tmp_path_factory.mktemp('checkpoint') / 'sound'
    save_variables(folder / '3', {'params': {}}, describe(tiny_config(), SHAPES))
    shutil.rmtree(folder / '3' / 'state')
    (folder / '3' / 'state').mkdir()
    return folder


def look(checkpoint, data):
    other = damaged(checkpoint, data)
    try:
        config = stored_config(other / '3')
        require_same_network(other / '3', tiny_config())
    except CheckpointError as error:
        assert str(other) in str(error)
    else:
        assert config.model.to_dict() == tiny_config().model.to_dict()
        assert category_set(config.categories).things == SHAPES.things


@pytest.mark.parametrize('content', [b'[]', b'{}', b'7', b'null', b'"model"'])
@pytest.mark.parametrize('part', ['config', 'categories'])
def test_checkpoints_of_before_there_were_sums_are_looked_at_too(tmp_path, part, content):
    config = tiny_config()
    config.categories = 'mine.json'
    save_variables(tmp_path / '3', {'params': {}}, describe(config, SHAPES))
    assert category_set(stored_config(tmp_path / '3').categories).things == SHAPES.things
    shutil.rmtree(tmp_path / '3' / 'checksums')
    (tmp_path / '3' / part / 'metadata').write_bytes(content)
    with pytest.raises(CheckpointError, match='is damaged'):
        stored_config(tmp_path / '3')


@pytest.mark.timeout(20)
def test_a_text_of_quotes_that_is_cut_off_takes_no_time(tmp_path):
    path = tmp_path / 'gt.json'
    path.write_bytes(b'{"annotations": "' + b'\\"' * 2_000_000)
    with pytest.raises(InputError, match='is not valid JSON'):
        read_json(path, TrueFile)


@QUICK
@given(data=st.data())
def test_damaged_panoptic_files_are_named(panoptic, data):
    score(panoptic, data)


@QUICK
@given(data=st.data())
def test_damaged_results_are_named(results, data):
    measure(results, data)


@QUICK
@given(data=st.data())
def test_damaged_descriptions_of_checkpoints_are_named(checkpoint, data):
    look(checkpoint, data)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@LONG
@given(data=st.data())
def test_damage_of_all_three_at_length(panoptic, results, checkpoint, data):
    which = data.draw(st.integers(0, 2))
    (score, measure, look)[which]((panoptic, results, checkpoint)[which], data)

"""Evaluation of a few scenes: metrics, pictures, report, saved predictions, methods without a panoptic head."""

import json

import cv2
import numpy as np
import pytest

from sognet_jax.evaluation.summary import FUSIONS
from sognet_jax.programs import evaluate as programs_evaluate
from sognet_jax.programs.evaluate import Outputs, evaluate, evaluate_saved
from tests.support.examples import tiny_config
from tests.support.runs import save_fresh_run

pytestmark = pytest.mark.compiles


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    config = tiny_config()
    config.data.dir = str(tmp_path_factory.mktemp('data'))
    config.data.num_train = 14
    config.data.num_validation = 6
    config.eval_batch_size = 4
    config.inference.score_threshold = 0.02  # so that fresh parameters find something
    config.inference.stuff_area_limit = 4
    config.model.occlusion.update(width=4, features=4, pairs=4)
    return config


@pytest.fixture(scope='module')
def run(config, tmp_path_factory):
    return save_fresh_run(config, tmp_path_factory.mktemp('run'))


def test_evaluation_writes_the_metrics_and_the_pictures(config, run, tmp_path, capsys):
    metrics = evaluate(config, run, Outputs(tmp_path / 'eval', num_pictures=3))
    stored = json.loads((tmp_path / 'eval' / 'metrics.json').read_text())
    wanted = (
        'PQ SQ RQ PQ_things SQ_things RQ_things PQ_stuff SQ_stuff RQ_stuff OA OA_true order_accuracy '
        'order_accuracy_true order_accuracy_category_rule order_accuracy_geometry_rule mIoU'
    )
    for name in wanted.split():
        assert 0 <= stored[name] <= 100 and stored[name] == pytest.approx(metrics[name], abs=1e-3), name
    pictures = sorted((tmp_path / 'eval').glob('*.png'))
    assert len(pictures) == 3 and all(cv2.imread(str(path)) is not None for path in pictures)
    printed = capsys.readouterr().out
    assert 'order accuracy' in printed and 'best category-only rule' in printed


def test_saved_predictions_evaluate_to_the_same_metrics(config, run, tmp_path):
    metrics = evaluate(config, run, Outputs(tmp_path, num_pictures=0, predictions=True, report=True))
    page = (tmp_path / 'report.html').read_text()
    assert page.count('scene overlap graph') >= 6 and '<script' in page
    (tmp_path / 'report.html').unlink()
    again = evaluate_saved(config, Outputs(tmp_path, num_pictures=1, report=True))
    assert (tmp_path / 'report.html').is_file() and len(list(tmp_path.glob('*.png'))) == 1
    evaluate_saved(config, Outputs(tmp_path, num_pictures=0))
    assert not (tmp_path / 'report.html').exists(), 'it would be of the evaluation before'
    missing = metrics.keys() - again.keys()
    assert missing == {name for name in metrics if 'IoU' in name}
    for name, value in again.items():
        np.testing.assert_equal(value, metrics[name], err_msg=name)
    assert metrics['order_pairs'] > 0
    saved = json.loads((tmp_path / 'predictions' / 'panoptic.json').read_text())['annotations']
    assert len(saved) == 6 and any(entry['segments_info'] for entry in saved)


def test_overlap_pixels_are_compared_where_they_are_asked_for(config, run, tmp_path, capsys):
    (tmp_path / 'rules.json').write_text('{"rules": [{"on": "star", "under": "box"}]}')
    config = config.copy_and_resolve_references()
    config.inference.label_prior = str(tmp_path / 'rules.json')
    metrics = evaluate(config, run, Outputs(tmp_path, num_pictures=0, report=True, overlap_pixels=True))
    compared = {name for name in metrics if name.startswith('overlap_pixels/')}
    assert compared == {f'overlap_pixels/{name}' for name in FUSIONS}
    stored = json.loads((tmp_path / 'metrics.json').read_text())
    assert {f'overlap_pixels_same_class/{name}' for name in FUSIONS} < stored.keys() and stored['overlap_pixels'] >= 0
    printed, page = capsys.readouterr().out, (tmp_path / 'report.html').read_text()
    for title in FUSIONS.values():
        assert title in printed and title in page, title


@pytest.mark.parametrize('wanted', ['predictions', 'report', 'overlap_pixels'])
def test_what_needs_the_network_is_refused_of_the_relation_head_alone(config, run, tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(programs_evaluate, 'has_relations_alone', lambda *_: True)
    with pytest.raises(ValueError, match='of the relation head alone there is nothing to save, report or fuse'):
        evaluate(config, run, Outputs(tmp_path, **{wanted: True}))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('method', ['heuristics', 'label_prior', 'occlusion_head'])
def test_methods_without_a_panoptic_head(config, run, tmp_path, method):
    (tmp_path / 'rules.json').write_text('{"rules": [{"on": "star", "under": "box"}]}')
    config = config.copy_and_resolve_references()
    config.inference.update(method=method, label_prior=str(tmp_path / 'rules.json'))
    metrics = evaluate(config, run, Outputs(tmp_path, num_pictures=1))
    assert 0 <= metrics['PQ'] <= 100 and 'OA' not in metrics and 'mask_AP' in metrics
    assert len(list(tmp_path.glob('*.png'))) == 1

"""Whole runs on a few scenes: resume, stop on what is not finite, refuse checkpoints that do not fit, evaluate."""

import json
import shutil

import cv2
import jax
import numpy as np
import pytest

from sognet_jax.checkpoints import CheckpointError, Checkpoints, run_folder
from sognet_jax.programs.evaluate import evaluate, evaluate_saved
from sognet_jax.training.loop import train
from sognet_jax.training.progress import NotFiniteError, check_finite
from tests.examples import tiny_config


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    config = tiny_config()
    config.batch_size = 4
    config.data.dir = str(tmp_path_factory.mktemp('data'))
    config.data.num_train = 14
    config.data.num_validation = 6
    config.eval_batch_size = 4
    config.optimizer.learning_rate = 0.002
    config.train.update(steps=4, log_every=2, checkpoint_every=2)
    config.inference.score_threshold = 0.02  # so that a network of four steps finds something
    config.inference.stuff_area_limit = 4
    return config


@pytest.fixture(scope='module')
def finished(config, tmp_path_factory):
    """The folder and the last state of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp('run')
    return workdir, train(config, workdir, say=print)


def test_a_resumed_run_ends_with_exactly_the_parameters_of_an_uninterrupted_one(config, finished, tmp_path):
    _, expected = finished
    shorter = config.copy_and_resolve_references()
    shorter.train.steps = 2
    assert int(train(shorter, tmp_path, say=print).step) == 2
    resumed = train(config, tmp_path, say=print)
    assert int(resumed.step) == 4
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(expected))


def test_a_run_writes_progress_checkpoints_and_tensorboard(config, finished, tmp_path):
    workdir, _ = finished
    assert sorted(folder.name for folder in (workdir / 'checkpoints').iterdir()) == ['2', '4']
    assert list((workdir / 'tensorboard').glob('events*'))
    shutil.copytree(workdir, tmp_path / 'copy')
    config = config.copy_and_resolve_references()
    config.train.steps = 5
    lines = []
    train(config, tmp_path / 'copy', say=lines.append)
    assert len(lines) == 1 and lines[0].startswith('step 5/5')
    for word in ('rpn_score', 'box_delta', 'mask', 'semantic', 'panoptic', 'relation', 'total', 'images/s', 'left'):
        assert word in lines[0]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoints(config, finished, tmp_path):
    workdir, state = finished
    shutil.copytree(workdir, tmp_path / 'copy')
    shutil.rmtree(tmp_path / 'copy' / 'checkpoints' / '4')
    checkpoints = Checkpoints(tmp_path / 'copy')
    checkpoints.save(state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params)), config.to_dict())
    checkpoints.close()
    longer = config.copy_and_resolve_references()
    longer.train.steps = 8
    with pytest.raises(NotFiniteError, match='step 5: .*total = nan'):
        train(longer, tmp_path / 'copy', say=print)
    assert sorted(folder.name for folder in (tmp_path / 'copy' / 'checkpoints').iterdir()) == ['2', '4']


def test_the_error_names_the_loss():
    with pytest.raises(NotFiniteError, match='step 7: box_delta = inf; '):
        check_finite(7, {'mask': 0.5, 'box_delta': float('inf')})


def test_another_network_s_checkpoint_is_refused(config, finished):
    other = config.copy_and_resolve_references()
    other.model.box.features = 24
    with pytest.raises(CheckpointError, match='checkpoints/4'):
        train(other, finished[0], say=print)
    with pytest.raises(CheckpointError, match=r'of another network.*box_head.*checkpoint \(.*16.*network \(.*24'):
        evaluate(other, finished[0], finished[0] / 'eval')


def test_a_missing_or_broken_checkpoint_is_named(config, finished, tmp_path):
    with pytest.raises(CheckpointError, match='no checkpoint in'):
        evaluate(config, tmp_path, tmp_path / 'eval')
    shutil.copytree(finished[0], tmp_path / 'copy')
    for path in (tmp_path / 'copy' / 'checkpoints' / '4' / 'state').rglob('_METADATA'):
        path.write_text('{')
    with pytest.raises(CheckpointError, match='checkpoints/4'):
        evaluate(config, tmp_path / 'copy', tmp_path / 'eval')


def test_results_go_to_the_run_whatever_part_of_it_is_named(tmp_path):
    for path in (tmp_path, tmp_path / 'checkpoints', tmp_path / 'checkpoints' / '4'):
        assert run_folder(path) == tmp_path


def test_evaluation_writes_the_metrics_and_the_pictures(config, finished, tmp_path, capsys):
    metrics = evaluate(config, finished[0], tmp_path / 'eval', num_pictures=3)
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


def test_saved_predictions_evaluate_to_the_same_metrics(config, finished, tmp_path):
    metrics = evaluate(config, finished[0], tmp_path, num_pictures=0, save_predictions=True, report=True)
    page = (tmp_path / 'report.html').read_text()
    assert page.count('scene overlap graph') >= 6 and '<script' in page
    (tmp_path / 'report.html').unlink()
    again = evaluate_saved(config, tmp_path, num_pictures=1, report=True)
    assert (tmp_path / 'report.html').is_file() and len(list(tmp_path.glob('*.png'))) == 1
    missing = metrics.keys() - again.keys()
    assert missing == {name for name in metrics if 'IoU' in name}
    for name, value in again.items():
        np.testing.assert_equal(value, metrics[name], err_msg=name)
    assert metrics['order_pairs'] > 0
    saved = json.loads((tmp_path / 'predictions' / 'panoptic.json').read_text())['annotations']
    assert len(saved) == 6 and any(entry['segments_info'] for entry in saved)


@pytest.mark.parametrize('method', ['heuristics', 'label_prior'])
def test_methods_without_a_panoptic_head(config, finished, tmp_path, method):
    (tmp_path / 'rules.json').write_text('{"rules": [{"on": "star", "under": "box"}]}')
    config = config.copy_and_resolve_references()
    config.inference.update(method=method, label_prior=str(tmp_path / 'rules.json'))
    metrics = evaluate(config, finished[0], tmp_path, num_pictures=1)
    assert 0 <= metrics['PQ'] <= 100 and 'OA' not in metrics and 'mask_AP' in metrics
    assert len(list(tmp_path.glob('*.png'))) == 1

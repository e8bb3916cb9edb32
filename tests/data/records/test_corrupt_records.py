"""Records that are not what was written: named, or left out for another image, the same on any number of hosts."""

import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
from absl import flags

from sognet_jax.data.configured import example_settings, prepare_split
from sognet_jax.data.examples.pipeline import LEFT_OUT, evaluation_batches, train_dataset
from sognet_jax.data.records.storage import CorruptRecordError, RecordSource
from sognet_jax.training.batches import TrainBatches
from tests.support.examples import tiny_config

NUM_RECORDS = 24


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    config = tiny_config()
    config.data.update(dir=str(tmp_path_factory.mktemp('data')), num_train=NUM_RECORDS, num_validation=1)
    return config


@pytest.fixture(scope='module')
def whole(config):
    return prepare_split(config, 'train')


def copy(whole, folder, damage):
    """The data with a damaged file."""
    shutil.copytree(whole.folder, folder)
    (path,) = folder.glob('*train.array_record*')
    path.write_bytes(damage(bytearray(path.read_bytes())))
    return RecordSource(folder, 'train')


def flip(content):
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    return content


def corrupt(source):
    """The records that cannot be read, and what is said of each."""
    found = {}
    for index in range(len(source)):
        try:
            source[index].panoptic_ids()
        except CorruptRecordError as error:
            found[index] = str(error)
    return found


@pytest.mark.parametrize(
    ('damage', 'number'),
    [
        (flip, 1),
        (lambda content: content[: len(content) // 2], NUM_RECORDS),
    ],
    ids=['flipped bytes', 'half a file'],
)
def test_what_cannot_be_read_is_named_in_one_line(whole, tmp_path, damage, number):
    found = corrupt(copy(whole, tmp_path / 'data', damage))
    assert len(found) == number
    for index, message in found.items():
        assert message.startswith(f'{tmp_path}/data, split train, record {index} cannot be read: ')
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ('file', 'content', 'message'),
    [
        ('metadata.json', None, "'categories'"),
        ('metadata.json', '', 'Expecting value'),
        ('dataset_info.json', '{', 'Failed to load JSON'),
        ('dataset_info.json', None, 'Could not read dataset info'),
        ('*train.array_record*', None, 'No such file'),
        ('*train.array_record*', '', 'array_record-.* is empty'),
    ],
)
def test_a_copy_that_is_not_whole_says_where_it_is(whole, tmp_path, file, content, message):
    shutil.copytree(whole.folder, tmp_path / 'data')
    (path,) = (tmp_path / 'data').glob(file)
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(
        ValueError, match=f'^{tmp_path}/data is damaged: .*{message}.*; without it, it is prepared'
    ) as one:
        RecordSource(tmp_path / 'data', 'train')
    assert len(str(one.value).splitlines()) == 1


def batches(config, source, steps, **options):
    dataset = train_dataset(source, example_settings(config), batch_size=8, seed=1, **options)
    return [dataset[step] for step in range(steps)]


def test_another_image_takes_the_place_of_a_corrupt_one_and_the_others_stay_where_they_were(config, whole, tmp_path):
    damaged = copy(whole, tmp_path / 'data', flip)
    (bad,) = corrupt(damaged)
    expected = batches(config, whole, 6)
    found = batches(config, damaged, 6, skip_corrupt=True)
    halves = [batches(config, damaged, 6, skip_corrupt=True, host=host, num_hosts=2) for host in (0, 1)]
    left_out = 0
    for step, (right, batch) in enumerate(zip(expected, found, strict=True)):
        rows = batch[LEFT_OUT] == bad
        left_out += np.count_nonzero(rows)
        np.testing.assert_array_equal(batch[LEFT_OUT][~rows], -1)
        np.testing.assert_array_equal(batch['image'][~rows], right['image'][~rows])
        np.testing.assert_array_equal(batch['image_id'][rows], whole[(bad + 1) % NUM_RECORDS].image_id)
        for name, values in batch.items():
            np.testing.assert_array_equal(np.concatenate([half[step][name] for half in halves]), values)
    assert left_out == 2  # 48 images, each twice


def test_so_many_corrupt_records_are_no_accident(config, whole, tmp_path):
    damaged = copy(whole, tmp_path / 'data', lambda content: content[: len(content) // 2])
    with pytest.raises(CorruptRecordError, match='record .* cannot be read'):
        batches(config, damaged, 1, skip_corrupt=True)


def test_training_batches_name_the_record_and_the_field_that_does_without(config, whole, tmp_path, monkeypatch):
    damaged = copy(whole, tmp_path / 'data', flip)
    monkeypatch.setattr('sognet_jax.training.batches.training_source', lambda config: damaged)
    stream = TrainBatches(config)
    with pytest.raises(CorruptRecordError, match=r'record \d+ cannot be read: .*data.skip_corrupt = True trains with'):
        for _ in range(4):
            next(stream)
    stream.close()
    leaving_out = config.copy_and_resolve_references()
    leaving_out.data.skip_corrupt = True
    said = []
    stream = TrainBatches(leaving_out, say=said.append)
    for _ in range(7):
        assert LEFT_OUT not in next(stream)  # it is nothing for the devices
    stream.close()
    assert len(said) == 1 and said[0].endswith('is corrupt and left out, the 1. so far')


def test_workers_that_are_killed_are_replaced_and_the_batches_stay_the_same(config, whole):
    flags.FLAGS.mark_as_parsed()  # grain asks for one of its own
    expected = TrainBatches(config)
    with_workers = config.copy_and_resolve_references()
    with_workers.data.workers = 1
    said = []
    stream = TrainBatches(with_workers, say=said.append)
    for step in range(12):
        if step == 2:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)
        batch, right = next(stream), next(expected)
        for name, value in right.items():
            np.testing.assert_array_equal(batch[name], value)
    stream.close()
    expected.close()
    assert said == ['WARNING: a process that makes batches has been killed; all 1 start anew']


def test_evaluation_goes_on_where_its_workers_are_killed(config, whole, capsys):
    flags.FLAGS.mark_as_parsed()
    seen = []
    for batch in evaluation_batches(whole, example_settings(config), 2, workers=1):
        seen += batch['record_index'].tolist()
        if len(seen) == 4:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)
    assert sorted(seen) == list(range(NUM_RECORDS))
    assert 'has been killed; all 1 start anew' in capsys.readouterr().err

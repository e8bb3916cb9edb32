"""Streams of examples: deterministic, resumable, shared by hosts, and every validation image once."""

import dataclasses

import cv2
import numpy as np
import pytest

from sognet_jax.data.images import image_record
from sognet_jax.data.pipeline import evaluation_batches, train_iterator
from sognet_jax.data.shapes.builder import ShapesSettings, prepare
from sognet_jax.data.storage import RecordSource
from sognet_jax.data.transforms import ExampleSettings

SETTINGS = ExampleSettings((64, 64), 64, 64, 4, 4)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp('data'), ShapesSettings(num_train=10, num_validation=7))


def stream(folder, **changes):
    arguments = {'batch_size': 4, 'flip': True, 'seed': 3} | changes
    return train_iterator(RecordSource(folder, 'train'), SETTINGS, **arguments)


def ids(iterator, batches):
    return [next(iterator)['image_id'].tolist() for _ in range(batches)]


def test_a_stream_depends_on_its_seed_alone(folder):
    assert ids(stream(folder), 6) == ids(stream(folder), 6)
    assert ids(stream(folder), 6) != ids(stream(folder, seed=4), 6)


def test_every_epoch_has_each_image_once_in_another_order(folder):
    flat = np.array(ids(stream(folder, batch_size=5), 6)).reshape(3, 10)
    assert all(sorted(epoch) == sorted(flat[0]) for epoch in flat)
    assert len({tuple(epoch) for epoch in flat}) == 3


def test_batches_of_one_are_the_same_stream(folder):
    assert sum(ids(stream(folder, batch_size=1), 10), []) == sum(ids(stream(folder, batch_size=5), 2), [])


def test_a_restored_stream_goes_on_where_it_was_saved(folder):
    first = stream(folder)
    ids(first, 3)
    state = first.get_state()
    expected = [next(first) for _ in range(4)]
    second = stream(folder)
    second.set_state(state)
    for batch in expected:
        other = next(second)
        for name, value in batch.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_half_of_the_images_are_mirrored(folder):
    plain = {}
    for batch in (next(it) for it in [stream(folder, flip=False)] * 5):
        plain |= dict(zip(batch['image_id'].tolist(), batch['image'], strict=True))
    iterator = stream(folder)
    mirrored = []
    for _ in range(25):
        batch = next(iterator)
        for image_id, image in zip(batch['image_id'].tolist(), batch['image'], strict=True):
            same = np.array_equal(image, plain[image_id])
            assert same or np.array_equal(image, plain[image_id][:, ::-1])
            mirrored.append(not same)
    assert 0.3 < np.mean(mirrored) < 0.7


def test_hosts_share_the_images_of_an_epoch(folder):
    seen = [np.ravel(ids(stream(folder, batch_size=5, host=host, num_hosts=2), 1)) for host in range(2)]
    assert sorted(np.concatenate(seen)) == sorted(np.ravel(ids(stream(folder, batch_size=10), 1)))


def test_more_hosts_than_images_are_refused(folder):
    with pytest.raises(ValueError, match='10 training images'):
        stream(folder, num_hosts=11)


def test_evaluation_has_batches_of_either_orientation(tmp_path):
    sizes = [(40, 60), (60, 40), (30, 60), (60, 30), (60, 45), (50, 50)]
    for index, size in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f'{index}.png'), np.full((*size, 3), 40 * index, np.uint8))
    source = [image_record(tmp_path / f'{index}.png', index) for index in range(len(sizes))]
    settings = dataclasses.replace(SETTINGS, image_size=(64, 96), short_side=64, long_side=96)
    batches = list(evaluation_batches(source, settings, 2))
    shapes = [batch['image'].shape[1:3] for batch in batches]
    assert set(shapes) == {(64, 96), (96, 64)}
    seen = {}
    for batch in batches:
        for index, size in zip(batch['record_index'].tolist(), batch['image_size'].tolist(), strict=True):
            if index >= 0:
                seen[index] = size
    # Each keeps the scale that its orientation allows: the shorter side has 64 pixels, or the longer one 96.
    expected = {}
    for index, (height, width) in enumerate(sizes):
        scale = min(64 / min(height, width), 96 / max(height, width))
        expected[index] = [round(height * scale), round(width * scale)]
    assert seen == expected


def test_evaluation_sees_every_image_once_and_marks_the_filling(folder):
    batches = list(evaluation_batches(RecordSource(folder, 'validation'), SETTINGS, 3))
    assert all(batch['image'].shape == (3, 64, 64, 3) for batch in batches)
    assert np.concatenate([batch['record_index'] for batch in batches]).tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]

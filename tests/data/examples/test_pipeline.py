"""Streams of batches: functions of seed and step, shared by hosts, in two buckets, and every validation image once."""

import collections
import dataclasses

import numpy as np
import pytest
from absl import flags

from sognet_jax.data.examples.pipeline import (
    FILLER,
    Augmentation,
    BatchPlan,
    Stream,
    evaluation_batches,
    orientations,
    train_dataset,
)
from sognet_jax.data.examples.transforms import ExampleSettings
from sognet_jax.data.records.png import encode_image
from sognet_jax.data.records.schema import Record
from sognet_jax.data.records.storage import MixedSource, RecordSource
from sognet_jax.data.sources.shapes.builder import ShapesSettings, prepare

SETTINGS = ExampleSettings((64, 64), 64, 64, 4, 4)
LONG = dataclasses.replace(SETTINGS, image_size=(64, 96), short_side=64, long_side=96)
SIZES = [(40, 60), (60, 40), (30, 60), (60, 30), (60, 45), (50, 50), (45, 60)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp('data'), ShapesSettings(num_train=10, num_validation=7))


class Images(list):
    """Records with the sizes of their images."""

    @property
    def sizes(self):
        return np.array([record.size for record in self])


@pytest.fixture(scope='module')
def images():
    """Grey images of `SIZES`."""
    return Images(
        Record(encode_image(np.full((*size, 3), 30 * index, np.uint8)), index, f'{index}.png', size)
        for index, size in enumerate(SIZES)
    )


def batches(folder, **changes):
    arguments = {'batch_size': 4, 'augmentation': Augmentation(flip=True), 'seed': 3} | changes
    return train_dataset(RecordSource(folder, 'train'), SETTINGS, **arguments)


def ids(dataset, count):
    return [dataset[step]['image_id'].tolist() for step in range(count)]


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name, value in batch.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_a_stream_depends_on_its_seed_alone(folder):
    assert ids(batches(folder), 6) == ids(batches(folder), 6)
    assert ids(batches(folder), 6) != ids(batches(folder, seed=4), 6)


def test_every_epoch_has_each_image_once_in_another_order(folder):
    flat = np.array(ids(batches(folder, batch_size=5), 6)).reshape(3, 10)
    assert all(sorted(epoch) == sorted(flat[0]) for epoch in flat)
    assert len({tuple(epoch) for epoch in flat}) == 3


def test_the_order_does_not_depend_on_the_batch_size(folder):
    assert sum(ids(batches(folder, batch_size=1), 10), []) == sum(ids(batches(folder, batch_size=5), 2), [])


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_workers_and_restarts_change_nothing(folder, workers):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's processes take over the flags of this one
    dataset = batches(folder)
    for first in (0, 3, 1000):
        iterator = Stream(dataset, first, workers)
        for step in range(first, first + 3):
            assert_same(dataset[step], next(iterator))
        iterator.close()


@pytest.mark.parametrize('num_hosts', [2, 4])
def test_hosts_make_together_the_batch_that_one_would(folder, num_hosts):
    whole = batches(folder)[5]
    parts = [batches(folder, host=host, num_hosts=num_hosts)[5] for host in range(num_hosts)]
    assert_same(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})


def test_half_of_the_images_are_mirrored(folder):
    plain, mirrored = {}, []
    for step in range(5):
        batch = batches(folder, augmentation=None)[step]
        plain |= dict(zip(batch['image_id'].tolist(), batch['image'], strict=True))
    for step in range(25):
        batch = batches(folder)[step]
        for image_id, image in zip(batch['image_id'].tolist(), batch['image'], strict=True):
            same = np.array_equal(image, plain[image_id])
            assert same or np.array_equal(image, plain[image_id][:, ::-1])
            mirrored.append(not same)
    assert 0.3 < np.mean(mirrored) < 0.7


def test_the_shorter_side_is_drawn_anew_for_each_image(folder):
    dataset = batches(folder, augmentation=Augmentation(short_sides=(40, 60)))
    sides = np.concatenate([dataset[step]['image_size'] for step in range(40)])
    assert np.all(sides[:, 0] == sides[:, 1])
    assert set(sides[:, 0]) <= set(range(40, 61)) and len(set(sides[:, 0])) > 15 and {40, 60} <= set(sides[:, 0])


def test_a_batch_has_one_orientation_and_each_its_share(images):
    dataset = train_dataset(images, LONG, batch_size=2, seed=0)
    seen = collections.Counter()
    for step in range(70):
        batch = dataset[step]
        assert batch['image'].shape[1:3] in ((64, 96), (96, 64))
        for image_id in batch['image_id'].tolist():
            height, width = SIZES[image_id]
            assert height == width or (height < width) == (batch['image'].shape[1] == 64)
            seen[image_id] += 1
    # 140 places: as many for every image, but for the epochs that have begun.
    assert set(seen) == set(range(len(SIZES))) and all(19 <= count <= 21 for count in seen.values())


def test_two_shares_alternate_evenly():
    plan = BatchPlan([np.arange(3), np.array([9])], batch_size=1, seed=0)
    assert [int(plan(step)[0]) // 9 for step in range(12)] == [0, 0, 0, 1] * 3


def test_mixed_sources_are_one(folder):
    train, validation = RecordSource(folder, 'train'), RecordSource(folder, 'validation')
    mixed = MixedSource([train, validation])
    assert len(mixed) == 17 and len(mixed.sizes) == 17
    expected = [record.image_id for source in (train, validation) for record in source]
    assert [record.image_id for record in mixed] == expected


def test_what_cannot_be_batched_is_refused(folder):
    with pytest.raises(ValueError, match='batch_size = 4 cannot be divided by 3 hosts'):
        batches(folder, num_hosts=3)
    with pytest.raises(ValueError, match='no training images'):
        train_dataset(Images(), SETTINGS, batch_size=4, seed=0)


@pytest.mark.parametrize(('num_hosts', 'batch_size'), [(1, 1), (1, 3), (2, 2), (3, 4)])
def test_evaluation_has_every_image_once_on_any_hosts(images, num_hosts, batch_size):
    seen, shapes = {}, []
    for host in range(num_hosts):
        shapes.append([])
        for batch in evaluation_batches(images, LONG, batch_size, host=host, num_hosts=num_hosts):
            shapes[-1].append(batch['image'].shape)
            for index, size in zip(batch['record_index'].tolist(), batch['image_size'].tolist(), strict=True):
                assert index == FILLER or index not in seen
                if index != FILLER:
                    seen[index] = size
    # Hosts that run a program together need the same shapes at the same time.
    assert all(host == shapes[0] for host in shapes) and len(set(shapes[0])) == 2
    # Each keeps the scale that its orientation allows: the shorter side has 64 pixels, or the longer one 96.
    expected = {}
    for index, (height, width) in enumerate(SIZES):
        scale = min(64 / min(height, width), 96 / max(height, width))
        expected[index] = [round(height * scale), round(width * scale)]
    assert seen == expected


def test_evaluation_with_workers_is_the_same(folder):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    source = RecordSource(folder, 'validation')
    plain = list(evaluation_batches(source, SETTINGS, 3))
    assert np.concatenate([batch['record_index'] for batch in plain]).tolist() == [*range(7), FILLER, FILLER]
    for batch, other in zip(plain, evaluation_batches(source, SETTINGS, 3, workers=2), strict=True):
        assert_same(batch, other)


def test_orientations_of_a_square_bucket_are_one():
    assert [bucket.tolist() for bucket in orientations(np.array(SIZES), SETTINGS)] == [list(range(len(SIZES)))]
    assert [bucket.tolist() for bucket in orientations(np.array(SIZES), LONG)] == [[0, 2, 5, 6], [1, 3, 4]]

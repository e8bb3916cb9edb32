"""Examples have the arrays of the contract, in training and in evaluation."""

import typing

import numpy as np
import pytest

from benchmarks.made_up_batch import random_batch
from sognet_jax.categories import SHAPES
from sognet_jax.contract import Example
from sognet_jax.data.examples.pipeline import evaluation_batches
from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.records.png import encode_image
from sognet_jax.data.records.schema import Record
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.training.batches import TrainBatches
from tests.support.examples import tiny_config

LAYOUTS = {name: hint.__metadata__[0] for name, hint in typing.get_type_hints(Example, include_extras=True).items()}
SIZES = {'H': 128, 'W': 160, 'N': 10, 'H/4': 32, 'W/4': 40}
SETTINGS = ExampleSettings((128, 160), 128, 160, max_instances=10, num_stuff=SHAPES.num_stuff)
OF_BATCHES = {'record_index', 'example_index'}
PIXELS = {'image', 'image_size', 'semantic', 'panoptic'}


def check(example, sizes=SIZES, batch=()):
    for name, value in example.items():
        shape, dtype = LAYOUTS[name]
        assert value.dtype == dtype, name
        assert value.shape == (*batch, *(int(sizes.get(side, side)) for side in shape.split())), name


@pytest.mark.parametrize('pixels', [True, False])
@pytest.mark.parametrize('annotated', [True, False])
def test_an_example_has_every_array(annotated, pixels):
    record = draw(ShapesSettings(), 0, 3)
    if not annotated:
        record = Record(encode_image(record.image()), 3, 'bare.png', record.size)
    example = make_example(record, SETTINGS, flip=True, pixels=pixels)
    assert example.keys() == LAYOUTS.keys() - OF_BATCHES - (set() if pixels else PIXELS)
    assert example['mirrored']
    check(example)


def test_batches_have_them_too(tmp_path):
    config = tiny_config()
    config.data.dir = str(tmp_path)
    config.data.num_train = config.data.num_validation = 9
    batches = TrainBatches(config)
    batch = next(batches)
    batches.close()
    sizes = {'H': 64, 'W': 64, 'N': 4, 'H/4': 16, 'W/4': 16}
    assert batch.keys() == LAYOUTS.keys() - {'record_index'}
    check(batch, sizes, (1, 8))
    records = [draw(ShapesSettings(), 0, index) for index in range(3)]

    class Source(list):
        sizes = np.array([record.size for record in records])

    for batch in evaluation_batches(Source(records), SETTINGS, 2):
        assert batch.keys() == LAYOUTS.keys() - {'example_index'}
        check(batch, SIZES, (2,))


def test_made_up_batches_are_like_those():
    config = tiny_config()
    check(random_batch(config), {'H': 64, 'W': 64, 'N': 4, 'H/4': 16, 'W/4': 16}, (config.batch_size,))

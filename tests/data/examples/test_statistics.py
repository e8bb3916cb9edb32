"""Statistics against plain loops over the records, and plots against the statistics."""

import dataclasses
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.data.examples.statistics import resize_factors, statistics, summary, table
from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.records.overlap_file import STATES
from sognet_jax.data.records.schema import InstanceAnnotations, Pairs, Segments
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.pictures.statistics import statistics_figure

SETTINGS = ExampleSettings((64, 96), 64, 96, max_instances=4, num_stuff=SHAPES.num_stuff)


def with_crowd(record):
    crowd = np.zeros(len(record.instances.id), bool)
    crowd[0] = True
    of_crowd = (record.pairs.first == 0) | (record.pairs.second == 0)
    pairs = {name: values[~of_crowd] for name, values in dataclasses.asdict(record.pairs).items()}
    instances = dataclasses.replace(record.instances, crowd=crowd)
    return dataclasses.replace(record, instances=instances, pairs=type(record.pairs)(**pairs))


def without_panoptic(record):
    pairs = dataclasses.replace(
        record.pairs,
        covered=np.full_like(record.pairs.covered, -1),
        first_pixels=np.zeros_like(record.pairs.first_pixels),
        second_pixels=np.zeros_like(record.pairs.second_pixels),
    )
    return dataclasses.replace(record, has_panoptic=False, segments=Segments(), pairs=pairs)


def plain(record, size):
    """An image without annotations."""
    return dataclasses.replace(
        record,
        size=size,
        has_instances=False,
        has_panoptic=False,
        segments=Segments(),
        instances=InstanceAnnotations(),
        pairs=Pairs(),
    )


@pytest.fixture(scope='module')
def records():
    drawn = [draw(ShapesSettings(), 0, index) for index in range(24)]
    changed = [with_crowd(record) for record in drawn[:3]] + [without_panoptic(record) for record in drawn[3:7]]
    return [*changed, *drawn[7:], plain(drawn[0], (90, 120)), plain(drawn[0], (120, 80))]


@pytest.fixture(scope='module')
def found(records):
    return statistics(records)


@pytest.fixture(scope='module')
def numbers(found):
    return summary(found, SHAPES, SETTINGS)


def test_images_are_counted_by_annotation_and_orientation(records, numbers):
    images = numbers['images']
    assert images['all'] == 26 and images['with_instances'] == 24 and images['with_panoptic'] == 20
    assert (images['landscape'], images['square'], images['portrait']) == (1, 24, 1)
    heights = [record.size[0] for record in records]
    expected = {'least': 90, 'median': 128, 'mean': round(np.mean(heights), 4), 'greatest': 128}
    assert images['height'] == expected


def test_instances_and_classes_are_those_of_a_loop(records, numbers):
    per_image, sides, counts, crowd, dropped = [], [], dict.fromkeys((c.name for c in SHAPES.things), 0), 0, 0
    for record in records:
        if not record.has_instances:
            continue
        real = 0
        for index, rle in enumerate(record.instances.rles):
            if record.instances.crowd[index]:
                crowd += 1
                continue
            real += 1
            counts[SHAPES.things[record.instances.category[index]].name] += 1
            sides.append(np.sqrt(coco_mask.decode(rle).astype(int).sum()))
        per_image.append(real)
        dropped += max(len(record.instances.id) - 4, 0)
    found = numbers['instances']
    assert found['all'] == len(sides) == sum(per_image) and found['crowd'] == crowd == 3
    assert found['dropped'] == dropped > 0
    assert found['images_beyond_max_instances'] == sum(len(record.instances.id) > 4 for record in records)
    assert found['per_image']['mean'] == round(np.mean(per_image), 4)
    assert found['per_image']['median'] == np.median(per_image) and found['per_image']['greatest'] == max(per_image)
    sizes = [
        sum(side < 32 for side in sides),
        sum(32 <= side < 96 for side in sides),
        sum(side >= 96 for side in sides),
    ]
    assert [found['small'], found['medium'], found['large']] == sizes and sizes[0] and sizes[1]
    assert {name: entry['instances'] for name, entry in numbers['things'].items()} == counts


def test_stuff_is_counted_by_image(records, numbers):
    for train_id, category in enumerate(SHAPES.stuff):
        images = sum(train_id in record.segments.category for record in records)
        segments = sum(int((record.segments.category == train_id).sum()) for record in records)
        assert numbers['stuff'][category.name] == {'images': images, 'segments': segments}


def test_pairs_are_counted_by_what_is_known_of_them(records, numbers):
    pairs = numbers['pairs']
    assert pairs['overlapping'] == sum(len(record.pairs.first) for record in records)
    assert pairs['decided'] == sum(int((record.pairs.covered >= 0).sum()) for record in records)
    assert pairs['decided'] + sum(pairs['undecided'].values()) == pairs['overlapping']
    unmapped = sum(len(record.pairs.first) for record in records if not record.has_panoptic)
    assert pairs['states']['no_panoptic'] == pairs['undecided']['no_panoptic'] == unmapped > 0
    assert pairs['states']['one_sided'] > 0 and pairs['undecided']['one_sided'] == 0
    assert sum(pairs['states'].values()) == pairs['overlapping'] == pairs['truly_known']


def test_orders_are_compared_where_both_are_known(records):
    record = max(records, key=lambda record: len(record.pairs.first) * record.has_panoptic)
    count = len(record.pairs.first)
    assert count >= 6
    covered, truly, first, second = np.full(count, -1), np.full(count, -1), np.zeros(count), np.zeros(count)
    covered[:5] = 0, 1, 0, 1, 1
    truly[:3] = 1, 1, 0
    first[:4], second[:4] = (3, 9, 8, 5), (5, 2, 2, 5)  # by pixels: 0, 1, 1, undecided
    changed = {'covered': covered, 'truly_covered': truly, 'first_pixels': first, 'second_pixels': second}
    changed = {name: values.astype(getattr(record.pairs, name).dtype) for name, values in changed.items()}
    record = dataclasses.replace(record, pairs=dataclasses.replace(record.pairs, **changed))
    pairs = summary(statistics([record]), SHAPES, SETTINGS)['pairs']
    assert pairs['agreement_with_pixels'] == {'pairs': 3, 'share': pytest.approx(2 / 3)}
    assert pairs['agreement_with_true_order'] == {'pairs': 3, 'share': pytest.approx(2 / 3)}


def test_images_are_resized_as_examples_are(records, found):
    factors = resize_factors(found, SETTINGS)
    # The bucket is turned for a portrait; the sizes of the last two records are not those of their images.
    for record, factor in list(zip(records, factors, strict=True))[:3]:
        assert factor == make_example(record, SETTINGS, either_orientation=True)['scale']
    np.testing.assert_allclose(factors[-2:], [64 / 90, 64 / 80])


def test_numbers_can_be_written_and_stand_in_the_table(numbers):
    assert json.loads(json.dumps(numbers)) == numbers
    lines = table(numbers).splitlines()
    assert all(len(line) <= 120 for line in lines)
    named = {line[:34].strip(): line[34:].split() for line in lines}
    assert named['instances'] == [str(numbers['instances']['all'])]
    assert named['undecided: no_panoptic'] == [str(numbers['pairs']['undecided']['no_panoptic'])]
    assert named['landscape, square, portrait'] == ['1', '24', '1']
    assert any(line.startswith('brick') or '   brick' in line for line in lines)


def test_images_without_annotations_have_statistics(records, tmp_path):
    found = statistics(records[-2:])
    numbers = summary(found, SHAPES, SETTINGS)
    assert numbers['instances']['per_image']['mean'] is None
    assert numbers['pairs']['agreement_with_pixels'] == {'pairs': 0, 'share': None}
    assert 'R* is the true order                     -' in table(numbers)
    statistics_figure(found, SHAPES, 4).savefig(tmp_path / 'plots.png')


def test_no_records_are_refused():
    with pytest.raises(ValueError, match='no images'):
        statistics([])


def test_bars_are_as_long_as_the_numbers(found, numbers):
    figure = statistics_figure(found, SHAPES, max_instances=4)
    axes = {ax.get_title(): ax for ax in figure.axes}
    assert sum(bar.get_height() for bar in axes['instances of an image'].patches) == numbers['images']['with_instances']
    assert sum(bar.get_height() for bar in axes['sizes of instances'].patches) == numbers['instances']['all']
    pairs = numbers['pairs']
    expected = [pairs['decided'], *(pairs['undecided'][state] for state in STATES), pairs['truly_known']]
    assert [bar.get_width() for bar in axes[f'{pairs["overlapping"]} overlapping pairs (R)'].patches] == expected
    things = sorted((entry['instances'] for entry in numbers['things'].values()), reverse=True)
    assert [bar.get_width() for bar in axes['thing classes: instances'].patches] == [n for n in things if n]

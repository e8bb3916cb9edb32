"""The drawn scenes keep what the data set promises, measured on their annotations."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw, prepare
from sognet_jax.data.sources.shapes.composition import SceneSettings
from sognet_jax.evaluation import order_rules
from tests.support.combined_rule import fit_combined_rule

SETTINGS = ShapesSettings()


@pytest.fixture(scope='module')
def scenes():
    return [draw(SETTINGS, 0, index) for index in range(400)]


def pair_table(records):
    tables = []
    for record in records:
        ends = np.stack([record.pairs.first, record.pairs.second], axis=-1)
        instances = record.instances
        tables.append(order_rules.PairTable(instances.category[ends], instances.box[ends], record.pairs.truly_covered))
    return order_rules.PairTable.concatenate(tables)


def test_there_are_enough_classes_and_instances(scenes):
    assert SHAPES.num_stuff >= 3 and SHAPES.num_things >= 8
    numbers = [len(scene.instances.id) for scene in scenes]
    assert min(numbers) >= 2 and max(numbers) == 10
    counts = np.bincount(np.concatenate([scene.instances.category for scene in scenes]), minlength=SHAPES.num_things)
    assert counts.min() >= 0.03 * counts.sum()


def test_a_quarter_of_the_pairs_overlap(scenes):
    overlapping = sum(len(scene.pairs.first) for scene in scenes)
    pairs = sum(len(scene.instances.id) * (len(scene.instances.id) - 1) // 2 for scene in scenes)
    assert overlapping >= 0.25 * pairs


def test_a_fifth_of_the_instances_is_small(scenes):
    boxes = np.concatenate([scene.instances.box for scene in scenes])
    assert np.mean(np.all(boxes[:, 2:] - boxes[:, :2] < 24, axis=1)) >= 0.2


def test_the_order_needs_category_and_geometry_and_has_exceptions(scenes):
    fitting, testing = pair_table(scenes[:200]), pair_table(scenes[200:])
    for fit, low, high in (
        (order_rules.fit_category_rule, 0.6, 0.8),
        (order_rules.fit_geometry_rule, 0.6, 0.8),
        (fit_combined_rule, 0.88, 0.97),
    ):
        # On the scenes it was fitted to a rule may even know exceptions by heart; 0.8 and 0.97 hold for unseen ones.
        assert low <= order_rules.accuracy(fit(fitting), testing) <= high, fit
    assert order_rules.accuracy(order_rules.fit_geometry_rule(fitting), fitting) <= 0.8


def test_panoptic_map_shows_exactly_what_the_true_order_leaves_visible(scenes):
    for scene in scenes[:40]:
        ids = scene.panoptic_ids()
        masks = np.moveaxis(coco_mask.decode(scene.instances.rles), -1, 0).astype(bool)
        for index, segment in enumerate(scene.instances.segment):
            assert not np.any((ids == segment) & ~masks[index])
        for first, second, covered in zip(
            scene.pairs.first, scene.pairs.second, scene.pairs.truly_covered, strict=True
        ):
            common = ids[masks[first] & masks[second]]
            assert not np.any(common == scene.instances.segment[[first, second][covered]])
        assert set(np.unique(ids)) == set(scene.segments.id.tolist())


def test_weak_order_is_decided_and_right_almost_everywhere(scenes):
    covered = np.concatenate([scene.pairs.covered for scene in scenes])
    truth = np.concatenate([scene.pairs.truly_covered for scene in scenes])
    assert np.mean(covered == truth) >= 0.98
    assert np.all((covered == truth) | (covered == -1))


def test_boxes_frame_their_masks(scenes):
    for scene in scenes[:40]:
        xywh = coco_mask.toBbox(scene.instances.rles)
        np.testing.assert_array_equal(scene.instances.box, np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1))


def test_the_seed_alone_decides(scenes):
    again = draw(SETTINGS, 0, 3)
    assert again.image_bytes == scenes[3].image_bytes and again.panoptic_bytes == scenes[3].panoptic_bytes
    assert draw(SETTINGS, 1, 3).image_bytes != again.image_bytes
    assert draw(ShapesSettings(seed=1), 0, 3).image_bytes != again.image_bytes


def test_what_is_stored_is_what_was_drawn(tmp_path):
    settings = ShapesSettings(SceneSettings(size=(96, 64), max_instances=5), num_train=4, num_validation=3)
    folder = prepare(tmp_path, settings)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert prepare(tmp_path, settings) == folder
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir()) == before
    source = RecordSource(folder, 'validation')
    assert len(source) == 3 and len(RecordSource(folder, 'train')) == 4
    stored = {record.image_id: record for record in (source[index] for index in range(3))}
    for index in range(3):
        drawn = draw(settings, 1, index)
        record = stored[drawn.image_id]
        np.testing.assert_array_equal(record.image(), drawn.image())
        np.testing.assert_array_equal(record.panoptic_ids(), drawn.panoptic_ids())
        np.testing.assert_array_equal(record.instances.box, drawn.instances.box)
        np.testing.assert_array_equal(record.instances.segment, drawn.instances.segment)
        np.testing.assert_array_equal(record.pairs.truly_covered, drawn.pairs.truly_covered)
        assert record.instances.rles == drawn.instances.rles
    with pytest.raises(ValueError, match="'test'"):
        RecordSource(folder, 'test')

"""The file of overlaps against the one that comes with the real COCO sample, and states that it does not have."""

import dataclasses
import json

import numpy as np
import pytest

from sognet_jax.data.records.overlap_file import overlap_entry, pair_states, write_overlaps
from sognet_jax.data.sources.coco.builder import preparation
from sognet_jax.data.sources.preparation import check
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from tests.support import golden_files

COCO_MINI = golden_files.real_data() / 'coco_mini'


@pytest.mark.skipif(not COCO_MINI.is_dir(), reason=f'no sample images in {COCO_MINI}')
def test_the_real_sample_has_exactly_the_known_overlaps(tmp_path):
    found = check(preparation(COCO_MINI, 'val2017'), workers=0)
    assert not found.problems
    write_overlaps({'val2017': [examined.record for examined in found.images()]}, tmp_path / 'deep' / 'overlaps.json')
    written = json.loads((tmp_path / 'deep' / 'overlaps.json').read_text())
    expected = json.loads((COCO_MINI / 'annotations' / 'overlaps_val2017.json').read_text())
    assert written == expected
    assert sum(len(image['pairs']) for image in expected.values()) == 96


def test_images_that_are_called_the_same_do_not_replace_each_other(tmp_path):
    """In several folders, with several suffixes, and in several splits."""
    names = {'train': ['a/1.png', 'b/1.png', '1.jpg', '1.png', '2.png'], 'val': ['3.png', '1.png', '1.jpg', 'a/1.png']}
    number, splits = iter(range(10)), {}
    for split in names:
        splits[split] = [
            dataclasses.replace(draw(ShapesSettings(), 0, next(number)), file_name=name) for name in names[split]
        ]
    unknown = dataclasses.replace(splits['train'][0], file_name='4.png', has_relations=False)
    write_overlaps(splits | {'test': [unknown]}, tmp_path / 'overlaps.json')
    written = json.loads((tmp_path / 'overlaps.json').read_text())
    keys = ['a/1', 'b/1', '1', '1.png', '2', '3', 'val/1.png', '1.jpg', 'a/1.png']
    entries = [overlap_entry(record) for split in names for record in splits[split]]
    assert list(written) == keys and list(written.values()) == json.loads(json.dumps(entries))


def test_the_states_of_pairs():
    record = next(
        scene for scene in (draw(ShapesSettings(), 0, index) for index in range(50)) if len(scene.pairs.first) > 3
    )
    count = len(record.pairs.first)
    none = np.zeros(count, np.int64)
    pixels = {'first_pixels': none.copy(), 'second_pixels': none.copy()}
    pixels['first_pixels'][0] = pixels['first_pixels'][1] = pixels['second_pixels'][1] = 5
    record = dataclasses.replace(record, pairs=dataclasses.replace(record.pairs, **pixels))
    assert pair_states(record) == ['one_sided', 'split'] + ['neither'] * (count - 2)
    segment = record.instances.segment.copy()
    segment[record.pairs.first[2]] = 0
    absent = dataclasses.replace(record, instances=dataclasses.replace(record.instances, segment=segment))
    ends = np.stack([record.pairs.first, record.pairs.second], axis=-1)
    expected = np.any(ends == record.pairs.first[2], axis=1)
    assert [state == 'one_absent' for state in pair_states(absent)] == expected.tolist()
    unknown = dataclasses.replace(record, has_panoptic=False)
    assert pair_states(unknown) == ['no_panoptic'] * count
    assert all(pair['panoptic_pixels'] is None for pair in overlap_entry(unknown)['pairs'])


def test_an_entry_names_who_lies_in_front():
    for index in range(20):
        record = draw(ShapesSettings(), 0, index)
        pairs, entry = record.pairs, overlap_entry(record)
        # Later ones were painted over earlier ones; the ids of drawn instances count in that order.
        assert all(pair['top'] in (None, max(pair['ann_ids'])) for pair in entry['pairs'])
        assert len(entry['pairs']) == len(pairs.first) and entry['n_matched'] == entry['n_instances']
        for pair in entry['pairs']:
            assert pair['ann_ids'] == sorted(pair['ann_ids']) and 0.1 <= pair['ratio'] <= 1
            assert sum(pair['panoptic_pixels']) <= pair['intersection']

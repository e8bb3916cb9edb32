"""Reading order.json, and instances that others have found."""

import json
import pathlib

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.data.sources.orders.readers import NO_DEPTH, OrderedImage
from sognet_jax.order.entry import order_entry
from sognet_jax.order.files import order_matrix, read_instances, read_order
from sognet_jax.problems import InputError, raise_if_any
from tests.support.order_sources import encode

NAMES = {1: 'cup', 2: 'plate'}


def image(name='a.jpg', ids=(5, 7, 9)):
    count = len(ids)
    nothing = np.zeros((count, count), bool)
    of_file = 'truth.json', pathlib.Path(name), name, 1, (4, 4), np.array(ids), ['x'] * count
    return OrderedImage(*of_file, [], [], nothing, nothing, NO_DEPTH)


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read_with_pairs_from_one_half_on(tmp_path):
    relations = np.array([[0, 0.5, 0], [0, 0, 0], [0.9, 0.49, 0]])
    entry = order_entry('a.jpg', [{'id': number, 'category': 'x'} for number in (5, 7, 9)], relations)
    entry['overlaps'].append({'covering': 7, 'covered': 9, 'strength': 0.4999})
    says = order_matrix(read_order(write(tmp_path / 'order.json', {'images': [entry]})), image())
    assert np.array_equal(says, relations >= 0.5)


def test_names_and_overlaps_are_enough(tmp_path):
    overlaps = [{'covering': 9, 'covered': 5, 'strength': 1}]
    path = write(tmp_path / 'order.json', {'images': [{'file_name': 'a.jpg', 'overlaps': overlaps}]})
    assert np.argwhere(order_matrix(read_order(path), image())).tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ([], "truth.json: the order says nothing of 'a.jpg'"),
        (
            [{'file_name': 'a.jpg', 'overlaps': [{'covering': 5, 'covered': 6, 'strength': 1}]}],
            'truth.json: the order has 6, which is not here',
        ),
        ([{'file_name': 'a.jpg', 'overlaps': []}] * 2, r'order.json, images\[1\]: a.jpg is there twice'),
        ([{'file_name': 'a.jpg'}], r"images\[0\]: has no field 'overlaps'"),
        (
            [{'file_name': 'a.jpg', 'overlaps': [{'covering': 5, 'covered': 7, 'strength': '1'}]}],
            r'images\[0\]: overlaps\[0\].strength is "1", expected a number',
        ),
        (
            [{'file_name': 'a.jpg', 'overlaps': [{'covering': 5, 'covered': 7, 'strength': 30}]}],
            r'images\[0\]: overlaps\[0\].strength is 30',
        ),
        (
            [{'file_name': 'a.jpg', 'overlaps': [{'covering': 5, 'covered': 5, 'strength': 1}]}],
            'truth.json: the order has 5 on itself',
        ),
    ],
)
def test_what_is_wrong_with_a_prediction_is_named(entries, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        order_matrix(read_order(write(tmp_path / 'order.json', {'images': entries})), image())
    assert '\n' not in str(error.value)


def read(path, folder, least):
    problems = []
    images = list(read_instances(path, NAMES, folder, least, problems))
    raise_if_any(problems)
    return images


def torchvision_results(rng, images, count):
    """What people make of torchvision's output `{'masks': [N, 1, H, W] in 0..1, 'labels', 'scores'}`."""
    results, kept = [], {}
    for image_id, (height, width) in images.items():
        masks, labels = rng.uniform(size=(count, 1, height, width)), rng.integers(1, 3, count)
        scores = rng.uniform(size=count)
        for mask, label, score in zip(masks[:, 0] > 0.5, labels, scores, strict=True):
            results.append(
                {'image_id': image_id, 'category_id': int(label), 'segmentation': encode(mask), 'score': float(score)}
            )
            if score >= 0.5:
                kept.setdefault(image_id, []).append((len(results), NAMES[int(label)], mask))
    return results, kept


@pytest.mark.parametrize('form', ['no folder', 'numbers', 'COCO 2014', 'texts'])
def test_results_of_another_segmenter(form, tmp_path):
    rng = np.random.default_rng(0)
    ids = {'texts': ('munich_1', 'ulm_02')}.get(form, (3, 42))
    results, kept = torchvision_results(rng, {ids[0]: (20, 30), ids[1]: (30, 20)}, 8)
    names = {
        'no folder': ['3', '42'], 'numbers': ['000003.jpg', '42.png'], 'texts': ['munich_1.png', 'ulm_02.png'],
        'COCO 2014': ['COCO_val2014_000000000003.jpg', 'COCO_val2014_000000000042.jpg'],
    }[form]  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(b'never opened')
    folder = None if form == 'no folder' else tmp_path
    found = read(write(tmp_path / 'results.json', results), folder, 0.5)
    assert [image.file_name for image in found] == names
    for image_id, result in zip(ids, found, strict=True):
        numbers, classes, masks = zip(*kept[image_id], strict=True)
        assert result.ids.tolist() == list(numbers) and list(result.names) == list(classes)
        assert all(np.array_equal(coco_mask.decode(rle), mask) for rle, mask in zip(result.whole, masks, strict=True))
        assert not result.covered.any() and not result.decided.any()


def annotations():
    outline = [[1, 1, 9, 1, 9, 9, 1, 9]]
    entry = {'id': 31, 'image_id': 1, 'category_id': 2, 'segmentation': outline}
    return {
        'images': [{'id': number, 'file_name': f'{number}.jpg', 'height': 12, 'width': 14} for number in (1, 2)],
        'annotations': [entry, entry | {'id': 32, 'iscrowd': 1}, entry | {'id': 30, 'category_id': 1}],
        'categories': [{'id': 1, 'name': 'fork'}, {'id': 2, 'name': 'plate'}],
    }


def test_annotations_are_instances_too(tmp_path):
    found = read(write(tmp_path / 'a.json', annotations()), None, 0.5)
    assert [(image.file_name, image.ids.tolist(), image.names) for image in found] == [
        ('1.jpg', [31, 30], ['plate', 'fork']), ('2.jpg', [], [])
    ]  # fmt: skip


def test_two_images_of_one_name_are_refused(tmp_path):
    content = annotations()
    content['images'][1]['file_name'] = '1.jpg'
    with pytest.raises(InputError, match=r'image 2: 1.jpg is that of .*image 1, too'):
        read(write(tmp_path / 'a.json', content), None, 0.5)


def change(field, value):
    return lambda result: result.update({field: value})


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (change('segmentation', {'size': [20, 30], 'counts': '1'}), 'image 3, instance 1: segmentation.counts are of'),
        (change('segmentation', {'size': [21, 30], 'counts': [630]}), 'image 3, instance 2: segmentation.size is'),
        (change('segmentation', [[1, 2, 3, 4, 5, 6]]), r'results\[0\], image 3: segmentation is \[\[1,2,3'),
        (change('image_id', 77), '0 files are called so'),
        (change('image_id', 5), '2 files are called so: 5.jpg, 5.png'),
        (lambda result: result.pop('score'), "has no field 'score'"),
    ],
)
def test_what_is_wrong_with_results_is_named(damage, message, tmp_path):
    results, _ = torchvision_results(np.random.default_rng(0), {3: (20, 30)}, 2)
    damage(results[0])
    for name in ('3.jpg', '5.jpg', '5.png'):
        (tmp_path / name).write_bytes(b'')
    with pytest.raises(InputError, match=message) as error:
        read(write(tmp_path / 'results.json', results), tmp_path, 0.0)
    assert '\n' not in str(error.value)

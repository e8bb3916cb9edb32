"""Images with a known order: what the readers make of each format, and how broken files are reported."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import OBJECT
from sognet_jax.category_files import categories_from_json
from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.records.relations import common_areas
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.orders.builder import preparation
from sognet_jax.data.sources.orders.readers import ORDER_FORMATS, read_ordered, touching
from sognet_jax.data.sources.preparation import check, prepare
from sognet_jax.json_files import Notes
from sognet_jax.order.rules import RULES, follow_rule, pairs_taking_part
from sognet_jax.order.scores import OrderScores
from sognet_jax.problems import InputError, raise_if_any, report
from tests.support import golden_files
from tests.support.order_sources import IMAGES, NAMES, SIZE, SPLITS, encode, instance_id, paint, write

COUNTS = (6, 1, 0, 9)


def scenes(seed=0):
    rng = np.random.default_rng(seed)
    return [paint(rng, count, f'{number:012d}.png') for number, count in enumerate(COUNTS, start=1)]


def read(root, form, **options):
    problems = []
    images = list(read_ordered(form, root, [], problems, Notes(), **options))
    raise_if_any(problems)
    return images


def plain_touching(masks):
    """By loops over the four neighbours."""
    count = len(masks)
    near = np.zeros((count, count), bool)
    for i in range(count):
        for j in range(count):
            for dy, dx in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
                padded = np.pad(masks[i], 1)
                moved = padded[1 + dy : 1 + dy + masks[i].shape[0], 1 + dx : 1 + dx + masks[i].shape[1]]
                near[i, j] |= i != j and (moved & masks[j]).any()
    return near


def plain_order(scene):
    """COCOA's and KINS' rule by loops: who is covered by whom, and what is decided."""
    count, near = len(scene.whole), plain_touching(scene.visible)
    covered, decided = np.zeros((count, count), bool), np.zeros((count, count), bool)
    for i in range(count):
        for j in range(count):
            if i == j:
                continue
            j_on_i = np.count_nonzero(scene.visible[j] & scene.whole[i])
            i_on_j = np.count_nonzero(scene.visible[i] & scene.whole[j])
            covered[i, j] = near[i, j] and j_on_i > i_on_j
            decided[i, j] = (near[i, j] and j_on_i != i_on_j) or (j_on_i == i_on_j == 0)
    return covered, decided


@pytest.mark.parametrize('form', ORDER_FORMATS)
def test_what_was_painted_is_read(form, tmp_path):
    painted = scenes()
    images = read(write(tmp_path, form, painted), form)
    assert [image.file_name.rpartition('/')[2] for image in images] == [scene.name for scene in painted]
    for number, (image, scene) in enumerate(zip(images, painted, strict=True)):
        rows = range(len(scene.whole))
        is_cocoa = form == 'cocoa'
        assert image.ids.tolist() == [row + 1 if is_cocoa else instance_id(number, row) for row in rows]
        assert list(image.names) == ['thing' if is_cocoa else NAMES[row % 2] for row in rows] and image.size == SIZE
        for rles, masks in ((image.whole, scene.whole), (image.visible, scene.visible)):
            if form != 'instaorder' or rles is image.whole:
                assert all(np.array_equal(coco_mask.decode(rle), mask) for rle, mask in zip(rles, masks, strict=True))
        if form in ('cocoa', 'kins'):
            covered, decided = plain_order(scene)
        else:
            covered, decided = scene.over().T, ~np.eye(len(scene.whole), dtype=bool)
        assert np.array_equal(image.covered, covered) and np.array_equal(image.decided, decided)
    assert sum(image.covered.sum() for image in images) > 5


def test_every_format_says_the_same_direction(tmp_path):
    """A small rectangle painted on a large one: the large one, 0, is covered by the small one, 1."""
    scene = paint(np.random.default_rng(0), 2, '000000000001.png')
    scene.whole[0], scene.whole[1] = True, False
    scene.whole[1, 5:9, 5:9] = True
    scene.visible[:] = scene.whole
    scene.visible[0] &= ~scene.whole[1]
    for form in ORDER_FORMATS:
        (image,) = read(write(tmp_path / form, form, [scene]), form)
        assert np.argwhere(image.covered).tolist() == [[0, 1]], form


def test_depth_and_mutual_pairs_of_instaorder(tmp_path):
    root = write(tmp_path, 'instaorder', scenes()[:1])
    path = root / 'annotations' / 'InstaOrder_val2017.json'
    content = json.loads(path.read_text())
    content['annotations'][0] |= {
        'occlusion': [{'order': '1<0', 'count': 2}, {'order': '0<2 & 2<0', 'count': 3}],
        'depth': [{'order': '1<2', 'count': 2, 'overlap': False}, {'order': '3=0', 'count': 5, 'overlap': True}],
    }
    path.write_text(json.dumps(content))
    (image,) = read(root, 'instaorder')
    assert np.argwhere(image.covered).tolist() == [[0, 1], [0, 2], [2, 0]]
    assert image.depth.tolist() == [[1, 2, 0, 0, 2], [3, 0, 1, 1, 5]]
    (root / 'annotations' / 'instances_val2017.json').unlink()
    (alone,) = read(root, 'instaorder', masks=False)  # what scores need
    assert alone.file_name == '000000000001.jpg' and np.array_equal(alone.covered, image.covered)
    with pytest.raises(InputError, match=r'instance 100: instances_\*.json beside the file has no such annotation'):
        read(root, 'instaorder')


def test_the_constraint_of_cocoa_counts_before_the_masks(tmp_path):
    root = write(tmp_path, 'cocoa', scenes()[:1])
    path = root / 'annotations' / 'COCO_amodal_val2014.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['depth_constraint'] = '1-2,1-3,4-1'
    path.write_text(json.dumps(content))
    assert np.argwhere(read(root, 'cocoa')[0].covered).tolist() == [[0, 3], [1, 0], [2, 0]]


def test_masks_that_touch_and_share():
    rng = np.random.default_rng(3)
    for _ in range(20):
        masks = rng.uniform(size=(6, 7, 9)) < 0.08
        rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
        assert np.array_equal(touching(rles), plain_touching(masks))
        shared = [[np.count_nonzero(a & b) for b in masks] for a in masks]
        assert common_areas(rles, rles).tolist() == shared
    assert touching([]).shape == common_areas([], []).shape == (0, 0)


def test_rules_and_pairs(tmp_path):
    painted = scenes(5)
    for image, scene in zip(read(write(tmp_path, 'kins', painted), 'kins'), painted, strict=True):
        near = plain_touching(scene.visible)
        count = len(near)
        areas = scene.whole.sum(axis=(1, 2))
        heights = [np.nonzero(mask)[0].mean() if mask.any() else 0 for mask in scene.visible]
        ranks = {'none': np.zeros(count), 'larger': areas, 'smaller': -areas, 'lower': np.array(heights)}
        for rule in RULES:
            expected = [
                [bool(near[i, j] and ranks[rule][j] > ranks[rule][i]) for j in range(count)] for i in range(count)
            ]
            assert follow_rule(rule, image).tolist() == expected
        shared = [
            [0 if i == j else (scene.whole[i] & scene.whole[j]).sum() for j in range(count)] for i in range(count)
        ]
        related = np.array(shared).reshape(count, count) >= 0.1 * np.minimum.outer(areas, areas)
        related &= ~np.eye(count, dtype=bool)
        chosen = {choice: pairs_taking_part(choice, image.whole, image.visible) for choice in ('overlapping', 'all')}
        assert np.array_equal(chosen['overlapping'], related)
        assert np.array_equal(chosen['all'], ~np.eye(count, dtype=bool))
        some = related.any(axis=1)
        among = pairs_taking_part('related', image.whole, image.visible)
        assert np.array_equal(among, np.outer(some, some) & ~np.eye(count, dtype=bool))
        assert np.array_equal(pairs_taking_part('touching', image.whole, image.visible), near)


@pytest.mark.parametrize('form', ORDER_FORMATS)
def test_what_is_prepared_trains_the_relation_head(form, tmp_path):
    painted = scenes(1)
    root = write(tmp_path / 'source', form, painted)
    found = check(preparation(form, root, SPLITS[form], OBJECT), workers=0)
    assert not found.problems, report(found.problems)
    prepared = prepare(preparation(form, root, SPLITS[form], OBJECT), tmp_path / 'data', workers=0)
    source = RecordSource(prepared.folder, SPLITS[form])
    settings = ExampleSettings((64, 64), 60, 60, 10, OBJECT.num_stuff)
    for record, image in zip(source, read(root, form), strict=True):
        example = make_example(record, settings)
        count = len(image.ids)
        one_way = image.covered & ~image.covered.T
        assert np.array_equal(example['order'][:count, :count], one_way)
        assert not example['order'][count:].any() and not example['has_panoptic']
        if one_way.any():
            off_diagonal = ~np.eye(count, dtype=bool)
            assert np.array_equal(example['decided'][:count, :count] & off_diagonal, image.decided & off_diagonal)
        assert (example['overlap'] | ~example['order']).all()


def test_classes_are_those_of_the_config_by_name(tmp_path):
    root = write(tmp_path, 'kins', scenes())
    both = categories_from_json([{'id': 7, 'name': 'plate'}, {'id': 3, 'name': 'cup'}], 'mine')
    found = check(preparation('kins', root, SPLITS['kins'], both), workers=0)
    assert next(found.images()).record.instances.category.tolist() == [1, 0, 1, 0, 1, 0]
    other = categories_from_json([{'id': 7, 'name': 'plate'}, {'id': 3, 'name': 'fork'}], 'mine')
    found = check(preparation('kins', root, SPLITS['kins'], other), workers=0)
    assert "image 1: 'cup' is none of the things of mine: plate, fork" in str(found.problems[0])


def edit(form, change):
    """A damage: a change of the first annotation."""

    def damage(root):
        (path,) = root.rglob(f'{SPLITS[form]}.json')
        content = json.loads(path.read_text())
        change(content['annotations'][0], content)
        path.write_text(json.dumps(content))

    return form, damage


def occlusion(text):
    return edit('instaorder', lambda entry, _: entry.update(occlusion=[{'order': text, 'count': 2}]))


def archive(path):
    with path.open('wb') as file:
        np.savez(file, np.zeros((6, 6)))


def huge(path):
    with path.open('wb') as file:
        header = {'descr': '<f8', 'fortran_order': False, 'shape': (10**13, 2)}
        np.lib.format.write_array_header_1_0(file, header)


DAMAGES = {
    'order 7<0': (occlusion('0<7'), "order '0<7' is not of two of its 6 instances"),
    'itself': (occlusion('1<1'), "order '1<1' is not of two"),
    'no order': (occlusion('over'), "order 'over' is not of two"),
    'depth': (
        edit('instaorder', lambda entry, _: entry.update(depth=[{'order': '0=1', 'count': 0, 'overlap': 0}])),
        r'annotations\[0\], image 1: depth\[0\].count is 0, expected',
    ),
    'twice': (edit('instaorder', lambda entry, _: entry['instance_ids'].insert(1, 100)), 'has an instance twice'),
    'unknown': (edit('instaorder', lambda entry, _: entry['instance_ids'].append(999)), 'instance 999: instances_'),
    'many answers': (
        edit('instaorder', lambda entry, _: entry.update(depth=[{'order': '0=1', 'count': 2**63, 'overlap': 0}])),
        r'annotations\[0\], image 1: depth\[0\].count is',
    ),
    'annotated twice': (
        edit('cocoa', lambda entry, content: content['annotations'].append(entry)),
        r'annotations\[4\], image 1: 000000000001.png is that of .*annotations\[0\]',
    ),
    'image twice': (
        edit('instaorder', lambda entry, content: content['annotations'].append(entry)),
        r'annotations\[4\], image 1: 000000000001.png is that of .*annotations\[0\]',
    ),
    'constraint': (edit('cocoa', lambda entry, _: entry.update(depth_constraint='1-9')), "order '1-9' is not"),
    'odd polygon': (edit('cocoa', lambda entry, _: entry['regions'][0]['segmentation'].pop()), 'has 7 numbers'),
    'no polygon': (
        edit('cocoa', lambda entry, _: entry['regions'][1].pop('segmentation')),
        r"image 1, regions\[1\]: has no field 'segmentation'",
    ),
    'no image': (edit('cocoa', lambda entry, _: entry.update(image_id=77)), 'image 77: is not in images'),
    'visible': (edit('kins', lambda entry, _: entry.pop('inmodal_seg')), '100, what is seen: segmentation is null'),
    'size': (
        edit('kins', lambda entry, _: entry.update(inmodal_seg=encode(np.ones((3, 3))))),
        r'image 1, instance 100, what is seen: segmentation.size is \[3, 3\], the image \[40, 60\]',
    ),
    'runs': (
        edit('syntable', lambda entry, _: entry['visible_mask'].update(counts='12')),
        'instance 100, what is seen: segmentation.counts are of',
    ),
    'matrix': (
        ('syntable', lambda root: np.save(root / 'occlusion_order/1.npy', np.zeros((2, 2)))),
        r"_name 'occlusion_order/1.npy', \[2, 2\], is no matrix of 0 and 1 with an empty diagonal, \[6, 6\]",
    ),
    'values': (
        ('syntable', lambda root: np.save(root / 'occlusion_order/1.npy', np.full((6, 6), np.nan))), 'is no matrix',
    ),
    'no matrix': (
        ('syntable', lambda root: (root / 'occlusion_order/1.npy').unlink()), "1.npy' cannot be read: is missing",
    ),
    'pickle': (
        ('syntable', lambda root: np.save(root / 'occlusion_order/1.npy', np.full((6, 6), None))), 'cannot be read',
    ),
    'archive': (('syntable', lambda root: archive(root / 'occlusion_order/1.npy')), "1.npy' cannot be read"),
    'huge': (('syntable', lambda root: huge(root / 'occlusion_order/1.npy')), "1.npy' cannot be read"),
    'no JSON': (('kins', lambda root: (root / 'instances_val.json').write_text('{')), 'is not valid JSON'),
    'no file': (('kins', lambda root: (root / 'instances_val.json').unlink()), 'has no annotation file'),
}  # fmt: skip


@pytest.mark.parametrize('name', DAMAGES)
def test_broken_files_are_named_in_one_line(name, tmp_path):
    (form, damage), message = DAMAGES[name]
    damage(write(tmp_path, form, scenes()))
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, form)
    assert '\n' not in str(error.value)


def test_an_image_that_is_missing_or_of_another_size_is_named(tmp_path):
    root = write(tmp_path, 'cocoa', scenes()[:2])
    (root / IMAGES['cocoa'] / '000000000001.png').unlink()
    cv2.imwrite(str(root / IMAGES['cocoa'] / '000000000002.png'), np.zeros((9, 9, 3), np.uint8))
    problems = check(preparation('cocoa', root, SPLITS['cocoa'], OBJECT), workers=0).problems
    assert [problem.text for problem in problems] == [
        'is missing', 'is 9 x 9 (height x width), its record says 40 x 60 (height x width)'
    ]  # fmt: skip


def test_without_opening_images_none_has_to_be_there(tmp_path):
    root = write(tmp_path, 'kins', scenes()[:2])
    (root / IMAGES['kins'] / '000000000001.png').unlink()
    of_annotations = preparation('kins', root, SPLITS['kins'], OBJECT, opens_files=False)
    assert not check(of_annotations, workers=0).problems
    (root / f'.{SPLITS["kins"]}.json').write_bytes(b'beside a file of macOS')
    assert len(read(root, 'kins')) == 2


def test_images_of_kitti_are_those_of_the_split(tmp_path):
    """Its numbers begin at 0 in either folder."""
    root = write(tmp_path, 'kins', scenes()[:1])
    other = root / 'training/image_2/000000000001.png'
    other.parent.mkdir(parents=True)
    other.write_bytes(b'another image')
    (root / 'instances_train.json').write_text((root / 'instances_val.json').read_text())
    for split, folder in (('instances_val', 'testing'), ('instances_train', 'training')):
        (image,) = read_ordered('kins', root, [split], [], Notes())
        assert image.image_file == root / folder / 'image_2/000000000001.png'


@pytest.mark.parametrize('name', ['scene', 'img[1]', 'a.b'])
def test_the_image_of_a_file_of_cocoa_is_the_one_called_the_same(name, tmp_path):
    regions = [{'segmentation': [1, 1, 9, 1, 9, 9]}]
    (tmp_path / f'{name}.json').write_text(json.dumps({'image_id': 1, 'regions': regions}))
    (tmp_path / f'{name}.csv').write_text('a table')
    for stem, size in ((name, 20), (f'{name}.2', 30), ('img1', 40)):
        cv2.imwrite(str(tmp_path / f'{stem}.jpg'), np.zeros((size, size, 3), np.uint8))
    (image,) = read(tmp_path, 'cocoa')
    assert image.file_name == f'{name}.jpg' and image.size == (20, 20)


@pytest.mark.parametrize(
    ('form', 'pairs', 'right'),
    [('syntable', 70, {'larger': 54, 'lower': 57}), ('cocoa', 34, {'larger': 12, 'lower': 17})],
)
def test_rules_on_real_samples_are_right_as_often_as_another_program_says(form, pairs, right):
    source = golden_files.real_data() / 'order' / form
    if not source.is_dir():
        pytest.skip('there are no samples')
    images = read(source, form)
    for rule, expected in (right | {'none': 0}).items():
        scores = OrderScores()
        for image in images:
            scores.add(follow_rule(rule, image), image)
        assert (scores.metrics()['pairs_right'], scores.metrics()['pairs']) == (expected, pairs)

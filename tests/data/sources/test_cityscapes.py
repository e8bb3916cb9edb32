"""The Cityscapes reader: what it takes from the official layout, and how it reports what is broken."""

import itertools
import json
import shutil

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import CITYSCAPES
from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.cityscapes.builder import preparation
from sognet_jax.data.sources.cityscapes.labels import INSTANCE_LABELS, LABEL_IDS
from sognet_jax.data.sources.cityscapes.polygons import draw_polygon
from sognet_jax.data.sources.preparation import check, prepare
from sognet_jax.id_maps import decode_ids
from sognet_jax.problems import InputError, report
from tests.support.cityscapes import (
    EMPTY,
    NAME,
    SIZE,
    STREET,
    change_ids,
    change_polygons,
    edit_object,
    files,
    paint,
    random_street,
    rectangle,
    replace_id,
    truncate,
    write_fixture,
    write_image,
    write_text,
)


@pytest.fixture
def source(tmp_path):
    return write_fixture(tmp_path / 'source')


def examine(root, split='val', **options):
    return check(preparation(root, split, **options), workers=0)


def only_record(objects, root):
    write_image(root, NAME, objects)
    found = examine(root)
    assert not found.problems, report(found.problems)
    return next(found.images()).record


def pairs_by_ids(record):
    """(id of the covered, id of the covering): (intersection, pixels of the covered, pixels of the covering)."""
    pairs, ids = record.pairs, record.instances.id
    columns = (pairs.first, pairs.second, pairs.covered, pairs.intersection, pairs.first_pixels, pairs.second_pixels)
    found = {}
    for first, second, covered, intersection, *pixels in zip(*map(np.ndarray.tolist, columns), strict=True):
        assert first < second and covered in (0, 1)
        ends = (int(ids[first]), int(ids[second]))
        step = 1 if covered == 0 else -1
        found[ends[::step]] = (intersection, *pixels[::step])
    return found


def test_segments_and_instances_are_those_of_the_painted_map(source):
    record = next(examine(source).images()).record
    assert (record.image_id, record.file_name, record.size) == (0, f'{NAME}_leftImg8bit.png', SIZE)
    assert record.has_instances and record.has_panoptic and record.has_relations
    names = ['road', 'pole', 'sky', 'person', 'car', 'person', 'person', 'rider', 'car', 'car', 'car', 'bus', 'bicycle']
    ids = [7, 17, 23, 24, 26, 24000, 24001, 25000, 26000, 26001, 26003, 28000, 33000]
    assert record.segments.id.tolist() == ids
    assert [CITYSCAPES.all[row].name for row in record.segments.category] == names
    assert record.segments.id[record.segments.crowd].tolist() == [24, 26]
    assert record.instances.id.tolist() == record.instances.segment.tolist() == ids[3:]
    assert record.instances.box_segment.tolist() == ids[3:]
    assert [CITYSCAPES.things[row].name for row in record.instances.category] == names[3:]
    assert record.instances.id[record.instances.crowd].tolist() == [24, 26]
    painted = paint(STREET)[0]
    np.testing.assert_array_equal(record.panoptic_ids(), np.where(np.isin(painted, ids), painted, 0))
    for instance, rle, box in zip(ids[3:], record.instances.rles, record.instances.box, strict=True):
        rows, columns = np.nonzero(painted == instance)
        np.testing.assert_array_equal(coco_mask.decode(rle), painted == instance)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_who_covers_whom_comes_from_the_polygons(source):
    """The pixels are those of the fixture's rectangles; hidden objects, groups and caravans have no pairs."""
    pairs = pairs_by_ids(next(examine(source).images()).record)
    person_on_both, group_on_both = 3 * 21, 3 * 5
    assert pairs == {
        (26000, 26001): (10 * 21, 0, 10 * 21 - person_on_both - group_on_both),
        (26000, 24000): (3 * 25, 0, 3 * 25),
        (26001, 24000): (8 * 25, 0, 8 * 25),
        (26001, 28000): (7 * 13, 0, 7 * 13),
        (33000, 25000): (8 * 10, 0, 0),
    }


@pytest.fixture(scope='module')
def random_records(tmp_path_factory):
    """What is painted, and the record, of 20 streets."""
    root = tmp_path_factory.mktemp('streets')
    streets = [random_street(np.random.default_rng(seed)) for seed in range(20)]
    for number, street in enumerate(streets):
        write_image(root, f'ulm_{number:06d}_000019', street)
    found = examine(root)
    assert not found.problems
    return [(street, examined.record) for street, examined in zip(streets, found.images(), strict=True)]


def naive_pairs(street):
    """Eq. (11) and the painting order, with whole masks and one pair after the other."""
    painted, numbers = paint(street)
    visible = [instance for instance in numbers if instance // 1000 != 29 and np.any(painted == instance)]
    masks = {}
    for instance in visible:
        polygon = np.array(street[numbers[instance]]['polygon'], np.int32)
        masks[instance] = cv2.fillPoly(np.zeros(SIZE, np.uint8), [polygon], 1).astype(bool)
    pairs = {}
    for a, b in itertools.combinations(visible, 2):
        common = masks[a] & masks[b]
        if common.sum() / min(masks[a].sum(), masks[b].sum()) >= 0.1:
            covered, covering = sorted((a, b), key=numbers.get)
            pixels = [int(np.sum(common & (painted == instance))) for instance in (covered, covering)]
            pairs[covered, covering] = (int(common.sum()), *pixels)
    return pairs


def test_pairs_are_those_of_whole_masks(random_records):
    compared = 0
    for street, record in random_records:
        expected = naive_pairs(street)
        assert pairs_by_ids(record) == expected
        compared += len(expected)
    assert compared > 200


def test_the_painting_order_agrees_with_visible_pixels_and_decides_what_they_leave_open(random_records):
    decided, undecided = 0, 0
    for _, record in random_records:
        for _, of_the_covered, of_the_covering in pairs_by_ids(record).values():
            assert of_the_covered <= of_the_covering
            decided += of_the_covered < of_the_covering
            undecided += of_the_covered == of_the_covering
    assert decided > 200 and undecided > 20


def test_a_polygon_is_drawn_within_the_image():
    """The corners are pixels, and inside."""
    expected = np.zeros(SIZE, np.uint8)
    expected[10:31, 0:9] = 1
    points = np.array(rectangle('car', -7, 10, 8, 30)['polygon'], np.int32)
    np.testing.assert_array_equal(coco_mask.decode(draw_polygon(points, SIZE)), expected)
    assert coco_mask.area(draw_polygon(points - [20, 0], SIZE)) == 0
    assert coco_mask.area(draw_polygon(points + [0, 60], SIZE)) == 0


def test_images_are_numbered_by_name(source):
    write_image(source, 'aachen_000000_000019', STREET)
    records = [found.record for found in examine(source).images()]
    assert [record.image_id for record in records] == [0, 1, 2]
    assert [record.file_name.split('_')[0] for record in records] == ['aachen', 'frankfurt', 'lindau']
    assert records[2].has_relations and not len(records[2].instances.id) and records[2].segments.id.tolist() == [7]


def test_without_relations_no_polygon_is_read(source):
    shutil.rmtree(source / 'gtFine' / 'test')
    for path in source.rglob('*_polygons.json'):
        path.unlink()
    found = examine(source, relations=False)
    record = next(found.images()).record
    assert not found.problems and record.has_instances and not record.has_relations and not len(record.pairs.first)
    assert len(record.instances.id) == 10


@pytest.mark.parametrize('has_labels', [False, True])
def test_the_test_split_has_images_alone(source, has_labels):
    if not has_labels:
        shutil.rmtree(source / 'gtFine')
    found = examine(source, 'test')
    record = next(found.images()).record
    assert not found.problems and record.file_name == 'berlin_000000_000019_leftImg8bit.png' and record.size == SIZE
    assert not record.has_instances and not record.has_panoptic and not record.has_relations


def test_preparing_stores_it_once(source, tmp_path):
    folder = prepare(preparation(source, 'val'), tmp_path / 'data', workers=0).folder
    assert prepare(preparation(source, 'val'), tmp_path / 'data').folder == folder
    stored, expected = RecordSource(folder, 'val'), next(examine(source).images()).record
    assert folder.parts[-3] == 'cityscapes' and stored.sizes.tolist() == [list(SIZE)] * 2
    assert stored.categories.all == CITYSCAPES.all
    record = stored[0]
    assert record.image_bytes == files(source, NAME)['image'].read_bytes()
    assert record.instances.rles == expected.instances.rles and pairs_by_ids(record) == pairs_by_ids(expected)
    np.testing.assert_array_equal(record.panoptic_ids(), expected.panoptic_ids())


def test_what_is_prepared_differs_when_files_or_relations_do(source):
    before = preparation(source, 'val').copy
    assert preparation(source, 'val').copy == before
    assert preparation(source, 'val', relations=False).copy != before
    write_image(source, EMPTY, STREET)
    assert preparation(source, 'val').copy != before


def test_an_example_has_the_same_overlaps(source, tmp_path):
    record = RecordSource(prepare(preparation(source, 'val'), tmp_path / 'data', workers=0).folder, 'val')[0]
    settings = ExampleSettings((64, 128), 64, 128, max_instances=12, num_stuff=CITYSCAPES.num_stuff)
    example = make_example(record, settings)
    slot = {instance: row for row, instance in enumerate(record.instances.id.tolist())}
    order = np.zeros((12, 12), bool)
    for covered, covering in [(26000, 26001), (26000, 24000), (26001, 24000), (26001, 28000), (33000, 25000)]:
        order[slot[covered], slot[covering]] = True
    np.testing.assert_array_equal(example['order'], order)
    np.testing.assert_array_equal(example['overlap'], order | order.T)
    assert example['decided'].all() and not example['true_order'].any()
    assert np.flatnonzero(example['crowd']).tolist() == [slot[24], slot[26]]
    assert example['semantic'][60, 5] == 255 and CITYSCAPES.all[example['semantic'][20, 5]].name == 'road'


IMAGE, MAP, POLYGONS = (f'{NAME}_{ending}' for ending in (
    'leftImg8bit.png', 'gtFine_instanceIds.png', 'gtFine_polygons.json'))  # fmt: skip

BROKEN = {
    'no such folder': (lambda root: root.rename(root.parent / 'gone'), 'leftImg8bit/val: is no folder'),
    'no images': (
        lambda root: [path.unlink() for path in root.glob('leftImg8bit/val/*/*')], 'leftImg8bit/val: has no image'),
    'no annotations': (lambda root: shutil.rmtree(root / 'gtFine'), 'gtFine/val: is no folder'),
    'a truncated image': (truncate('image'), f'{IMAGE}: is truncated, or has a damaged part'),
    'an empty image': (write_text('image', ''), f'{IMAGE}: no image'),
    'a missing map': (lambda root: files(root, NAME)['ids'].unlink(), f'{MAP}: is missing'),
    'a truncated map': (truncate('ids'), f'{MAP}: is truncated, or has a damaged part'),
    'a map that is no PNG': (write_text('ids', 'hello'), f'{MAP}: is not a PNG'),
    'an empty map': (write_text('ids', ''), f'{MAP}: is not a PNG'),
    'a map of 8 bits': (change_ids(lambda ids: ids.astype(np.uint8)), f'{MAP}: has 1 channels of uint8'),
    'a map of three channels': (
        change_ids(lambda ids: np.stack([ids] * 3, axis=-1)), f'{MAP}: has 3 channels of uint16'),
    'a map of another size': (
        change_ids(lambda ids: np.ascontiguousarray(ids[:63])), rf'{MAP}: is 63 x 128 .*, the image 64 x 128'),
    'an unknown label in the map': (replace_id(7, 34), f'{MAP}, segment 34: id 34 has .* no label'),
    'an instance of stuff': (replace_id(7, 7001), f'{MAP}, segment 7001: id 7001 .* labels 24 .. 33'),
    'an instance of an unknown label': (replace_id(7, 34000), f'{MAP}, segment 34000'),
    'missing polygons': (
        lambda root: files(root, NAME)['polygons'].unlink(),
        f'{POLYGONS}: is missing.*overlaps come from .*data.relations = False, or --without_relations'),
    'polygons that are no JSON': (truncate('polygons'), f'{POLYGONS}: is not valid JSON'),
    'polygons that are no text': (
        lambda root: files(root, NAME)['polygons'].write_bytes(b'\xff\xfe{'), f'{POLYGONS}: is not valid JSON'),
    'polygons that are a list': (write_text('polygons', '[]'), rf'{POLYGONS}: it is \[\], expected an object'),
    'polygons without a height': (
        change_polygons(lambda content: content.pop('imgHeight')), f"{POLYGONS}: has no field 'imgHeight'"),
    'polygons without a width': (
        change_polygons(lambda content: content.update(imgWidth='128')),
        f'{POLYGONS}: imgWidth is "128", expected a whole number'),
    'polygons without objects': (
        change_polygons(lambda content: content.update(objects={})), f'{POLYGONS}: objects is {{}}, expected a list'),
    'polygons of another size': (
        change_polygons(lambda content: content.update(imgWidth=256)),
        f'{POLYGONS}: polygons are for 64 x 256 .* image is 64 x 128'),
    'an object that is none': (
        change_polygons(lambda content: content['objects'].append('car')),
        rf'{POLYGONS}, objects\[19\]: it is "car", expected an object'),
    'an object without a label': (
        change_polygons(lambda content: content['objects'][3].pop('label')),
        rf"{POLYGONS}, objects\[3\]: has no field 'label'"),
    'an unknown label': (edit_object(3, label='boat'), rf"{POLYGONS}, objects\[3\]: label 'boat' is not in Cityscapes"),
    'a group of an unknown label': (
        edit_object(7, label='boatgroup'), rf"{POLYGONS}, objects\[7\]: label 'boatgroup' is not in Cityscapes"),
    'a polygon of two points': (
        edit_object(3, polygon=[[1, 2], [3, 4]]),
        rf'{POLYGONS}, objects\[3\]: polygon is \[\[1,2\],\[3,4\]\], expected .*: three or more points .* of car'),
    'a missing polygon': (
        change_polygons(lambda content: content['objects'][3].pop('polygon')),
        rf'{POLYGONS}, objects\[3\]: polygon is null, expected a list: three or more points \[x, y\] of car'),
    'a polygon of words': (
        edit_object(3, polygon=[['1', '2'], ['3', '4'], ['1', '4']]),
        rf'{POLYGONS}, objects\[3\]: polygon\[0\]\[0\] is "1", expected a number'),
    'a polygon of uneven points': (
        edit_object(3, polygon=[[1, 2], [3, 4], [5]]),
        rf'{POLYGONS}, objects\[3\]: polygon\[2\] is \[5\], expected a list of length 2'),
    'a polygon that is not finite': (
        edit_object(3, polygon=[[1, 2], [3, 4], [5, float('nan')]]),
        rf'{POLYGONS}, objects\[3\]: polygon\[2\]\[1\] is NaN, infinite or beyond all bounds'),
    'a polygon far away': (
        edit_object(3, polygon=[[1, 2], [3, 4], [5, 10**6]]),
        rf'{POLYGONS}, objects\[3\]: polygon\[2\]\[1\] is 1000000, expected a number <= 32767'),
    'an instance too many in the map': (
        replace_id(26003, 26004), f'{MAP}, segment 26004: {POLYGONS} has no polygon of it'),
    'an instance that was deleted': (
        edit_object(14, deleted=1), f'{MAP}, segment 25000: {POLYGONS} has no polygon of it'),
    'an instance elsewhere than its polygon': (
        edit_object(14, polygon=[[10, 2], [30, 4], [15, 40]]),
        f'{MAP}, segment 25000: .*not inside its polygon, object 14 of .*{POLYGONS}'),
}  # fmt: skip


@pytest.mark.parametrize('name', BROKEN)
def test_broken_files_are_named_and_nothing_is_stored(source, tmp_path, name):
    breaks, message = BROKEN[name]
    breaks(source)
    with pytest.raises(InputError, match=message):
        prepare(preparation(source, 'val'), tmp_path / 'data', workers=0)
    assert not list((tmp_path / 'data').rglob('*array_record*'))


def test_all_problems_come_in_one_report(source):
    truncate('image')(source)
    replace_id(7, 34)(source)
    edit_object(3, label='boat')(source)
    files(source, EMPTY)['ids'].unlink()
    text = report(examine(source).problems)
    for words in (
        f'{IMAGE}: is truncated',
        'segment 34: id 34',
        "objects[3]: label 'boat'",
        f'{EMPTY}_gtFine_instanceIds',
    ):
        assert words in text, words


def test_files_that_macos_leaves_are_no_images(source):
    (image,) = source.rglob(f'{EMPTY}_leftImg8bit.png')
    image.with_name(f'._{image.name}').write_bytes(b'Mac OS X')
    assert not examine(source).problems


def test_an_image_with_a_problem_can_be_left_out(source, tmp_path):
    edit_object(3, label='boat')(source)
    stored = prepare(preparation(source, 'val'), tmp_path / 'data', workers=0, leave_out_broken=True)
    records = RecordSource(stored.folder, 'val')
    assert [problem.kind for problem in stored.problems] == ['unknown label']
    assert [(record.image_id, record.file_name) for record in records] == [(1, f'{EMPTY}_leftImg8bit.png')]


def test_polygons_that_take_no_part_are_not_looked_at(source):
    """Those of deleted objects, of stuff and of groups."""
    expected = pairs_by_ids(next(examine(source).images()).record)
    edit_object(0, polygon=[])(source)
    edit_object(5, label='boat')(source)
    edit_object(7, polygon=None)(source)
    found = examine(source)
    assert not found.problems and pairs_by_ids(next(found.images()).record) == expected


def test_classes_are_those_of_the_labels():
    not_evaluated = {
        'license plate': -1, 'unlabeled': 0, 'ego vehicle': 1, 'rectification border': 2, 'out of roi': 3, 'static': 4,
        'dynamic': 5, 'ground': 6, 'parking': 9, 'rail track': 10, 'guard rail': 14, 'bridge': 15, 'tunnel': 16,
        'polegroup': 18, 'caravan': 29, 'trailer': 30,
    }  # fmt: skip
    assert {category.name: category.id for category in CITYSCAPES.all} | not_evaluated == LABEL_IDS
    assert {category.id for category in CITYSCAPES.things} | {29, 30} == set(INSTANCE_LABELS)


def test_labels_are_the_official_ones():
    official = pytest.importorskip('cityscapesscripts.helpers.labels').labels
    assert {label.name: label.id for label in official} == LABEL_IDS
    assert list(INSTANCE_LABELS) == [label.id for label in official if label.hasInstances]


def test_segments_are_those_of_the_official_conversion(source, tmp_path):
    official = pytest.importorskip('cityscapesscripts.preparation.createPanopticImgs')
    record = next(examine(source).images()).record
    official.convert2panoptic(str(source / 'gtFine'), str(tmp_path), setNames=['val'])
    content = json.loads((tmp_path / 'cityscapes_panoptic_val.json').read_text())
    segments = content['annotations'][0]['segments_info']
    assert [segment['id'] for segment in segments] == record.segments.id.tolist()
    classes = [CITYSCAPES.all[row].id for row in record.segments.category]
    assert [segment['category_id'] for segment in segments] == classes
    assert [bool(segment['iscrowd']) for segment in segments] == record.segments.crowd.tolist()
    png = tmp_path / 'cityscapes_panoptic_val' / f'{NAME}_gtFine_panoptic.png'
    np.testing.assert_array_equal(decode_ids(png.read_bytes()), record.panoptic_ids())
    boxes = {segment['id']: segment['bbox'] for segment in segments}
    for instance, (x1, y1, x2, y2) in zip(record.instances.id, record.instances.box.tolist(), strict=True):
        assert boxes[instance] == [x1, y1, x2 - x1, y2 - y1]


def test_maps_that_the_official_tool_paints_are_read(tmp_path):
    """The order of its maps is the painting order too, wherever two instances clearly differ in visible pixels."""
    official = pytest.importorskip('cityscapesscripts.preparation.json2instanceImg')
    annotation = pytest.importorskip('cityscapesscripts.helpers.annotation').Annotation()
    clear = 0
    for seed in range(20):
        street = random_street(np.random.default_rng(seed))
        write_image(tmp_path, NAME, street)
        paths = files(tmp_path, NAME)
        mine = cv2.imread(str(paths['ids']), cv2.IMREAD_UNCHANGED)
        annotation.fromJsonFile(str(paths['polygons']))
        theirs = np.array(official.createInstanceImage(annotation, 'ids'))
        cv2.imwrite(str(paths['ids']), theirs.astype(np.uint16))
        assert np.mean(mine == theirs) > 0.95
        found = examine(tmp_path)
        assert not found.problems
        record = next(found.images()).record
        numbers = paint(street)[1]
        assert {instance for instance in record.instances.id if instance >= 1000} <= set(numbers)
        for (covered, covering), (_, behind, before) in pairs_by_ids(record).items():
            assert numbers[covered] < numbers[covering]
            assert behind <= max(before, 5), (seed, covered, covering)
            clear += before > behind
    assert clear > 200

"""The COCO reader: what it takes from the official layout, and how it reports what is broken."""

import json

import cv2
import numpy as np
import pytest

from sognet_jax.categories import COCO
from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.coco.builder import preparation
from sognet_jax.data.sources.preparation import check, prepare
from sognet_jax.data.sources.staging import TOO_SMALL
from sognet_jax.id_maps import decode_ids, encode_ids
from sognet_jax.problems import InputError, report

HEIGHT, WIDTH = 40, 60
PERSON, TIE, GRASS = 1, 32, 193


@pytest.fixture
def source(tmp_path):
    """One image: a person, a tie on it, grass behind, and a crowd of persons."""
    root = tmp_path / 'source'
    (root / 'annotations' / 'panoptic_val').mkdir(parents=True)
    (root / 'val').mkdir()
    cv2.imwrite(str(root / 'val' / '7.jpg'), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    ids = np.full((HEIGHT, WIDTH), 900)
    ids[5:35, 10:30] = 70001
    ids[10:20, 15:20] = 70002
    ids[0:10, 40:60] = 70003
    (root / 'annotations' / 'panoptic_val' / '7.png').write_bytes(encode_ids(ids))
    image = {'id': 7, 'file_name': '7.jpg', 'height': HEIGHT, 'width': WIDTH}
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    crowd[0:10, 40:60] = 1
    counts = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], crowd.ravel(order='F'), [2]])))).tolist()
    instances = [
        instance(11, PERSON, [10, 5, 20, 30]),
        instance(12, TIE, [15, 10, 5, 10]),
        instance(13, PERSON, [40, 0, 20, 10])
        | {'iscrowd': 1, 'segmentation': {'size': [HEIGHT, WIDTH], 'counts': counts}},
    ]
    segments = [segment(900, GRASS), segment(70001, PERSON), segment(70002, TIE), segment(70003, PERSON, 1)]
    things = [{'id': PERSON, 'name': 'person'}, {'id': TIE, 'name': 'tie'}]
    write(root, 'instances_val.json', {'images': [image], 'annotations': instances, 'categories': things})
    panoptic = {'image_id': 7, 'file_name': '7.png', 'segments_info': segments}
    everything = [thing | {'isthing': 1} for thing in things]
    everything.append({'id': GRASS, 'name': 'grass-merged', 'isthing': 0})
    write(root, 'panoptic_val.json', {'images': [image], 'annotations': [panoptic], 'categories': everything})
    return root


def instance(identity, category, box):
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {
        'id': identity, 'image_id': 7, 'category_id': category, 'bbox': box, 'iscrowd': 0, 'segmentation': polygon,
    }  # fmt: skip


def segment(identity, category, crowd=0):
    return {'id': identity, 'category_id': category, 'iscrowd': crowd}


def write(root, name, content):
    (root / 'annotations' / name).write_text(json.dumps(content))


def change(root, name, edit):
    path = root / 'annotations' / name
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def read(root):
    """The only record, without storing it, and what is wrong."""
    found = check(preparation(root, 'val'), workers=0)
    return next(found.images()).record, found


def test_a_record_holds_both_annotations_and_who_covers_whom(source):
    record, found = read(source)
    assert not found.problems and not found.notes
    names = [COCO.things[index].name for index in record.instances.category]
    assert names == ['person', 'tie', 'person']
    assert record.instances.crowd.tolist() == [False, False, True]
    np.testing.assert_array_equal(record.instances.box[0], [10, 5, 30, 35])
    assert record.instances.segment.tolist() == record.instances.box_segment.tolist() == [70001, 70002, 0]
    pairs = record.pairs
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.covered.tolist()) == ([0], [1], [0])
    assert (pairs.intersection.tolist(), pairs.first_pixels.tolist(), pairs.second_pixels.tolist()) == ([50], [0], [50])
    assert COCO.all[record.segments.category[0]].name == 'grass-merged'
    png = (source / 'annotations' / 'panoptic_val' / '7.png').read_bytes()
    np.testing.assert_array_equal(record.panoptic_ids(), decode_ids(png))


def test_one_kind_of_annotation_may_be_missing(source):
    (source / 'annotations' / 'panoptic_val.json').unlink()
    record, _ = read(source)
    assert record.has_instances and record.has_relations and not record.has_panoptic
    assert record.pairs.covered.tolist() == [-1]


def test_panoptic_annotation_alone(source):
    (source / 'annotations' / 'instances_val.json').unlink()
    record, _ = read(source)
    assert record.has_panoptic and not record.has_instances and not record.has_relations
    assert len(record.instances.id) == 0 and len(record.segments.id) == 4


def test_an_image_that_only_one_file_lists_has_only_its_annotation(source):
    change(source, 'instances_val.json', lambda c: c.update(images=[], annotations=[]))
    assert not read(source)[0].has_instances and read(source)[0].has_panoptic


def test_an_image_without_objects_is_annotated_as_empty(source):
    change(source, 'instances_val.json', lambda c: c.update(annotations=[]))
    record, _ = read(source)
    assert record.has_instances and record.has_relations and not len(record.instances.id)


def test_images_without_annotations_are_read_as_such(source):
    """As COCO has test-dev2017: `image_info_test-dev2017.json`, and the images in `test2017`."""
    content = json.loads((source / 'annotations' / 'instances_val.json').read_text())
    write(source, 'image_info_test-dev2017.json', {'images': content['images'], 'categories': content['categories']})
    (source / 'val').rename(source / 'test2017')
    folder = prepare(preparation(source, 'test-dev2017'), source / 'data', workers=0).folder
    stored = RecordSource(folder, 'test-dev2017')
    assert len(stored) == 1 and not stored[0].has_instances and not stored[0].has_panoptic
    assert stored[0].image().shape == (HEIGHT, WIDTH, 3) and stored[0].file_name == '7.jpg'


def test_preparing_stores_it_once(source, tmp_path):
    folder = prepare(preparation(source, 'val'), tmp_path / 'data', workers=0).folder
    assert prepare(preparation(source, 'val'), tmp_path / 'data').folder == folder
    stored, (expected, _) = RecordSource(folder, 'val'), read(source)
    assert stored.sizes.tolist() == [[HEIGHT, WIDTH]]
    assert stored[0].image_bytes == (source / 'val' / '7.jpg').read_bytes()
    assert stored[0].instances.rles == expected.instances.rles
    np.testing.assert_array_equal(stored[0].panoptic_ids(), expected.panoptic_ids())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def png(root):
    return root / 'annotations' / 'panoptic_val' / '7.png'


def rewrite_png(root, edit):
    png(root).write_bytes(encode_ids(edit(decode_ids(png(root).read_bytes()))))


def edit_instance(index, **fields):
    return lambda root: change(root, 'instances_val.json', lambda c: c['annotations'][index].update(**fields))


def edit_segment(index, **fields):
    return lambda root: change(
        root, 'panoptic_val.json', lambda c: c['annotations'][0]['segments_info'][index].update(**fields)
    )


def edit_file(name, edit):
    return lambda root: change(root, name, edit)


BROKEN = {
    'no such folder': (lambda root: root.rename(root.parent / 'gone'), 'source.* is no folder'),
    'no annotations': (
        lambda root: (root / 'annotations').rename(root / 'gone'), 'annotations: has none of instances_val.json'),
    'no JSON': (
        lambda root: (root / 'annotations' / 'instances_val.json').write_text('{"im'),
        'instances_val.json: is not valid JSON'),
    'a missing field': (
        edit_file('instances_val.json', lambda c: c.pop('annotations')),
        "instances_val.json: has no field 'annotations'"),
    'an image entry without a size': (
        edit_file('instances_val.json', lambda c: c['images'][0].pop('height')),
        r"instances_val.json, images\[0\], id 7: has no field 'height'"),
    'an image entry without an id': (
        edit_file('panoptic_val.json', lambda c: c['images'].append({'file_name': '8.jpg'})),
        r"panoptic_val.json, images\[1\]: has no field 'id'"),
    'a doubled image id': (
        edit_file('panoptic_val.json', lambda c: c['images'].append(c['images'][0])),
        r'panoptic_val.json, images\[1\]: id 7 appears twice'),
    'sizes that contradict': (
        edit_file('panoptic_val.json', lambda c: c['images'][0].update(height=41)),
        'panoptic_val.json, image 7: height is 41 here and 40'),
    'an instance of no image': (
        edit_instance(1, image_id=8), r'instances_val.json, annotations\[1\], image 8, annotation 12: .*no such image'),
    'a panoptic annotation of no image': (
        edit_file('panoptic_val.json', lambda c: c['annotations'][0].update(image_id=8)),
        r'panoptic_val.json, annotations\[0\], image 8: .*no such image'),
    'two panoptic annotations': (
        edit_file('panoptic_val.json', lambda c: c['annotations'].append(c['annotations'][0])),
        r'panoptic_val.json, annotations\[1\], image 7: two annotations'),
    'a panoptic annotation without segments': (
        edit_file('panoptic_val.json', lambda c: c['annotations'][0].pop('segments_info')),
        r"panoptic_val.json, annotations\[0\], image 7: has no field 'segments_info'"),
    'a doubled annotation id': (edit_instance(1, id=11), 'image 7, annotation 11: id 11 appears twice'),
    'an instance without an id': (
        edit_file('instances_val.json', lambda c: c['annotations'][1].pop('id')),
        r"instances_val.json, annotations\[1\], image 7: has no field 'id'"),
    'a crowd flag that is a text': (
        edit_instance(0, iscrowd='0'),
        r'instances_val.json, annotations\[0\], image 7, id 11: iscrowd is "0", expected 0, 1, true or false'),
    'an unknown category in the list': (
        edit_file('instances_val.json', lambda c: c['categories'].append({'id': 12, 'name': 'street sign'})),
        r'instances_val.json, categories\[2\]: category 12 \(street sign\) is not in coco'),
    'a renamed category': (
        edit_file('instances_val.json', lambda c: c['categories'][0].update(name='cat')),
        r"instances_val.json, categories\[0\]: category 1 is called 'cat' here and 'person' in coco"),
    'a thing that the list calls stuff': (
        edit_file('panoptic_val.json', lambda c: c['categories'][1].update(isthing=0)),
        r"panoptic_val.json, categories\[1\]: 'tie' is a thing in coco, and stuff here"),
    'an unknown category': (edit_instance(1, category_id=12), 'image 7, annotation 12: category id 12'),
    'an instance without a category': (
        edit_file('instances_val.json', lambda c: c['annotations'][1].pop('category_id')),
        r"instances_val.json, annotations\[1\], image 7, id 12: has no field 'category_id'"),
    'stuff as an instance': (edit_instance(1, category_id=GRASS), 'annotation 12: category 193 .*stuff, not a thing'),
    'a broken mask': (
        edit_instance(0, segmentation={'counts': 3}),
        'annotation 11: segmentation.counts is 3, expected a text or a list: .* or run lengths'),
    'a polygon of two points': (
        edit_instance(0, segmentation=[[1, 2, 3, 4]]),
        r'annotation 11: segmentation\[0\] is \[1,2,3,4\], expected a list of length >= 6: polygons \[\[x1, y1, x2'),
    'no mask': (
        edit_file('instances_val.json', lambda c: c['annotations'][0].pop('segmentation')),
        r"instances_val.json, annotations\[0\], image 7, id 11: has no field 'segmentation'"),
    'a mask of another size': (
        edit_instance(0, segmentation={'size': [3, 4], 'counts': [0, 12]}),
        r'annotation 11: segmentation.size is \[3, 4\], the image \[40, 60\]'),
    'a mask that is too long': (
        edit_instance(0, segmentation={'size': [HEIGHT, WIDTH], 'counts': [0, 12]}),
        'annotation 11: segmentation.counts are of 12 pixels, expected 40 x 60 = 2400'),
    'an empty mask': (
        edit_instance(0, segmentation={'size': [HEIGHT, WIDTH], 'counts': [HEIGHT * WIDTH]}),
        'image 7, annotation 11: its mask covers no pixel'),
    'a box of three numbers': (
        edit_instance(0, bbox=[10, 5, 20]),
        r'instances_val.json, annotations\[0\], image 7, id 11: bbox is \[10,5,20\], expected a list of length 4'),
    'a box with a negative side': (
        edit_instance(0, bbox=[10, 5, -3, 30]),
        r'annotation 11: bbox is \[10.0, 5.0, -3.0, 30.0\], its mask is in \[10.0, 5.0, 20.0, 30.0\]'),
    'a box that is not finite': (
        edit_instance(0, bbox=[10, 5, float('nan'), 30]),
        r'instances_val.json, annotations\[0\], image 7, id 11: bbox\[2\] is NaN, infinite or beyond'),
    "a box that is not its mask's": (
        edit_instance(0, bbox=[50, 5, 20, 30]),
        r'annotation 11: bbox is \[50.0, 5.0, 20.0, 30.0\], its mask is in \[10.0, 5.0, 20.0, 30.0\]'),
    'a box of two corners': (
        edit_instance(0, bbox=[10, 5, 30, 35]),
        r'annotation 11: bbox is \[10.0, 5.0, 30.0, 35.0\], .*; it looks like \[x1, y1, x2, y2\]'),
    'a box outside the image': (
        edit_instance(0, bbox=[45, 5, 80, 30], segmentation=[[45, 5, 62, 5, 62, 35, 45, 35]]),
        r'annotation 11: bbox is \[45.0, 5.0, 80.0, 30.0\], its mask is in \[45.0, 5.0, 15.0, 30.0\]'),
    'a missing image': (lambda root: (root / 'val' / '7.jpg').unlink(), '7.jpg, image 7: is missing'),
    'a truncated image': (lambda root: truncate(root / 'val' / '7.jpg'), '7.jpg, image 7: .*truncated'),
    'a file that is no image': (
        lambda root: (root / 'val' / '7.jpg').write_text('hello'), '7.jpg, image 7: no image that can be decoded'),
    'an empty file': (lambda root: (root / 'val' / '7.jpg').write_text(''), r'7.jpg, image 7: no image .*\(0 bytes'),
    'an image of another size': (
        lambda root: cv2.imwrite(str(root / 'val' / '7.jpg'), np.zeros((4, 5, 3), np.uint8)),
        r'7.jpg, image 7: is 4 x 5 .* its record says 40 x 60'),
    'a missing PNG': (lambda root: png(root).unlink(), '7.png, image 7: panoptic PNG is missing'),
    'a truncated PNG': (lambda root: truncate(png(root)), '7.png, image 7: panoptic PNG is truncated'),
    'a PNG with one channel': (
        lambda root: cv2.imwrite(str(png(root)), np.zeros((HEIGHT, WIDTH), np.uint8)),
        '7.png, image 7: panoptic PNG has grey channels of 8 bits'),
    'a PNG of another size': (lambda root: rewrite_png(root, lambda ids: ids[:9]), '7.png, image 7: .*is 9 x 60'),
    'an id without a segment': (
        lambda root: rewrite_png(root, lambda ids: np.where(ids == 900, 901, ids)),
        '7.png, image 7: id 901 has .* pixels and no segment'),
    'void that is 255': (
        lambda root: rewrite_png(root, lambda ids: np.where(ids == 900, 0xFFFFFF, ids)),
        'image 7: id 16777215 .*unlabelled pixels are 0, not 255'),
    'a segment without a pixel': (
        lambda root: rewrite_png(root, lambda ids: np.where(ids == 70002, 0, ids)),
        'image 7, segment 70002: 7.png has no pixel'),
    'a doubled segment id': (edit_segment(2, id=70001), 'image 7, segment 70001: this id appears twice'),
    'a segment with the id of void': (
        edit_segment(0, id=0),
        r'panoptic_val.json, image 7, segments_info\[0\], id 0: id is 0, expected a whole number >= 1'),
    'an unknown segment category': (edit_segment(0, category_id=301), 'segment 900: category id 301'),
    'a crowd of stuff': (edit_segment(0, iscrowd=1), "segment 900: iscrowd is 1, but 'grass-merged' is stuff"),
}  # fmt: skip


@pytest.mark.parametrize('name', BROKEN)
def test_broken_annotations_are_named_and_nothing_is_stored(source, tmp_path, name):
    breaks, message = BROKEN[name]
    breaks(source)
    with pytest.raises(InputError, match=message):
        prepare(preparation(source, 'val'), tmp_path / 'data', workers=0)
    assert not list((tmp_path / 'data').rglob('*array_record*'))


def test_all_problems_come_in_one_report(source):
    edit_instance(0, iscrowd=7)(source)
    edit_instance(1, category_id=12)(source)
    truncate(source / 'val' / '7.jpg')
    rewrite_png(source, lambda ids: ids + 1)
    text = report(check(preparation(source, 'val'), workers=0).problems)
    for words in ('id 11: iscrowd', 'annotation 12: category id 12', 'truncated', 'segment 900: 7.png has no'):
        assert words in text, words
    assert 'PNG id without a segment (2)' in text


def test_what_is_broken_can_be_left_out(source, tmp_path):
    edit_instance(0, segmentation=[[1, 2, 3, 4]])(source)
    stored = prepare(preparation(source, 'val'), tmp_path / 'data', workers=0, leave_out_broken=True)
    assert [problem.kind for problem in stored.problems] == ['broken segmentation']
    assert RecordSource(stored.folder, 'val')[0].instances.id.tolist() == [12, 13]


def test_what_concerns_every_image_cannot_be_left_out(source, tmp_path):
    edit_file('instances_val.json', lambda c: c['categories'][0].update(name='cat'))(source)
    with pytest.raises(InputError, match="is called 'cat'"):
        prepare(preparation(source, 'val'), tmp_path / 'data', workers=0, leave_out_broken=True)


def test_a_box_that_is_missing_is_that_of_the_mask(source):
    with_boxes, _ = read(source)
    edit_file('instances_val.json', lambda c: [entry.pop('bbox') for entry in c['annotations']])(source)
    record, found = read(source)
    assert not found.problems and not found.notes
    assert record.instances.box.tolist() == [[10, 5, 30, 35], [15, 10, 20, 20], [40, 0, 60, 10]]
    np.testing.assert_array_equal(record.instances.box, with_boxes.instances.box)
    assert record.instances.box_segment.tolist() == with_boxes.instances.box_segment.tolist()


def test_instances_that_are_too_small_for_a_pixel_are_counted(source):
    edit_instance(1, bbox=[15, 10, 0.3, 0.2], segmentation=[[15, 10, 15.3, 10, 15.3, 10.2]])(source)
    record, found = read(source)
    assert found.notes == {TOO_SMALL: 1} and not found.problems and record.instances.id.tolist() == [11, 13]


def test_one_png_of_two_images_is_named(source):
    """As exports write it that drop the folders of images."""

    def flatten(content):
        image, annotation = content['images'][0], content['annotations'][0] | {'file_name': 'a.png'}
        content['images'] = [image | {'file_name': 'x/a.jpg'}, image | {'file_name': 'y/a.jpg', 'id': 8}]
        content['annotations'] = [annotation, annotation | {'image_id': 8}]

    change(source, 'panoptic_val.json', flatten)
    (source / 'annotations' / 'instances_val.json').unlink()
    text = report(check(preparation(source, 'val'), workers=0).problems)
    assert 'annotations/panoptic_val/a.png: is the file of image 8 and of image 7' in text


def test_an_annotation_file_that_is_a_link_to_nowhere_is_named(source):
    """As of a disk that is not mounted: without a word, the data would be prepared without its annotations."""
    path = source / 'annotations' / 'instances_val.json'
    path.unlink()
    path.symlink_to('/no/such/disk/instances_val.json')
    with pytest.raises(InputError, match='instances_val.json: is missing'):
        prepare(preparation(source, 'val'), source / 'data', workers=0)


def test_an_image_may_have_hundreds_of_instances(source):
    def many(content):
        entries = [instance(100 + number, TIE, [number % 50, number // 50, 5, 5]) for number in range(300)]
        content.update(annotations=entries)

    change(source, 'instances_val.json', many)
    (source / 'annotations' / 'panoptic_val.json').unlink()
    record, found = read(source)
    assert not found.problems and len(record.instances.id) == 300 and len(record.pairs.first) > 300

"""What the evaluation of files says of files that are broken."""

import pickle

import cv2
import numpy as np
import pytest

from sognet_jax.evaluation.panoptic_files.entries import PanopticFiles, read_pairs
from sognet_jax.evaluation.panoptic_files.scoring import evaluate_files
from sognet_jax.problems import InputError
from tests.support.panoptic_folder import Folder, random_folder, write_ids

MAP = np.repeat([[1, 2, 70000]], 2, axis=1).repeat(4, axis=0)


def small_folder(path):
    """Three images of 4 x 6 pixels, ids 10, 20, 30."""
    folder = Folder(path)
    for image_id in (10, 20, 30):
        true_segments = [(1, 7, False), (2, 3, False), (70000, 7, True)]
        folder.add(image_id, MAP, true_segments, MAP, [(1, 7), (2, 3), (70000, 12)])
    return folder


def without(*path):
    """A change of a JSON file: the field or item at the end of the path is left out."""

    def change(folder):
        del _parent(folder, path)[path[-1]]

    return change


def setting(value, *path):
    """A change of a JSON file: what is at the end of the path gets another value."""

    def change(folder):
        _parent(folder, path)[path[-1]] = value

    return change


def _parent(folder, path):
    entry = getattr(folder, path[0])
    for step in path[1:-1]:
        entry = entry[step]
    return entry


def png(which, content):
    """A change of the PNG of image 20: an id map, the pixels of an image, bytes, or a function of its bytes."""

    def change(folder):
        path = getattr(folder.files, f'{which}_folder') / '20.png'
        if callable(content):
            path.write_bytes(content(path.read_bytes()))
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif content.dtype == int:
            write_ids(path, content)
        else:
            cv2.imwrite(str(path), content)

    return change


def no_png(which):
    """A change: the PNG of image 20 is not there."""
    return lambda folder: (getattr(folder.files, f'{which}_folder') / '20.png').unlink()


ANNOTATION = ('annotations', 1)
SEGMENT = ('annotations', 0, 'segments_info', 1)
JPEG = cv2.imencode('.jpg', np.zeros((4, 6, 3), np.uint8))[1].tobytes()
IN_JSON = {
    'field of an annotation': (
        without('truth', *ANNOTATION, 'file_name'),
        "gt.json, annotations[1], image 20: has no field 'file_name'",
    ),
    'field of a prediction': (
        without('prediction', *ANNOTATION, 'segments_info'),
        "pred.json, annotations[1], image 20: has no field 'segments_info'",
    ),
    'image id': (
        without('prediction', *ANNOTATION, 'image_id'),
        "pred.json, annotations[1]: has no field 'image_id'",
    ),
    'field of a segment': (
        without('truth', *SEGMENT, 'area'),
        "gt.json, image 10, segments_info[1], id 2: has no field 'area'",
    ),
    'crowd flag': (
        without('truth', *SEGMENT, 'iscrowd'),
        "gt.json, image 10, segments_info[1], id 2: has no field 'iscrowd'",
    ),
    'field of a predicted segment': (
        without('prediction', *SEGMENT, 'category_id'),
        "pred.json, image 10, segments_info[1], id 2: has no field 'category_id'",
    ),
    'one PNG for two images': (
        setting('10.png', 'prediction', *ANNOTATION, 'file_name'),
        'pred/10.png: is the file of image 20 and of image 10',
    ),
    'ids that are texts': (
        setting('20', 'prediction', *ANNOTATION, 'image_id'),
        'pred.json: no prediction of 1 of 3 images: 20',
    ),
    'isthing': (
        without('truth', 'categories', 0, 'isthing'),
        "gt.json, categories[0], id 7: has no field 'isthing'",
    ),
    'categories': (without('truth', 'categories'), "gt.json: has no field 'categories'"),
    'annotations': (without('prediction', 'annotations'), "pred.json: has no field 'annotations'"),
    'doubled category': (
        setting(7, 'truth', 'categories', 1, 'id'),
        'gt.json, categories[1]: has the id 7, which an earlier one has',
    ),
    'type of a field': (
        setting('1', 'prediction', *SEGMENT, 'id'),
        """pred.json, image 10, segments_info[1], id '1': id is "1", expected a whole number""",
    ),
    'type of an image id': (
        setting([1], 'prediction', *ANNOTATION, 'image_id'),
        'pred.json, annotations[1], image [1]: image_id is [1], expected a whole number or a text',
    ),
    'number as a segment': (
        setting(3, 'prediction', *SEGMENT),
        'pred.json, image 10, segments_info[1]: it is 3, expected an object',
    ),
    'void as a segment': (
        setting(0, 'prediction', *SEGMENT, 'id'),
        'pred.json, image 10, segments_info[1], id 0: id is 0, expected a whole number >= 1',
    ),
    'id of four bytes': (
        setting(2**24, 'truth', *SEGMENT, 'id'),
        'gt.json, image 10, segments_info[1], id 16777216: id is 16777216, expected a whole number <= 16777215',
    ),
    'no categories': (setting([], 'truth', 'categories'), 'gt.json: categories is [], expected a list of length >= 1'),
    'no annotations': (
        setting([], 'prediction', 'annotations'),
        'pred.json: annotations is [], expected a list of length >= 1',
    ),
    'doubled segment': (
        setting(1, 'truth', *SEGMENT, 'id'),
        'gt.json, image 10, segments_info[1]: id 1 is listed twice',
    ),
    'area': (
        setting(float('nan'), 'truth', *SEGMENT, 'area'),
        'gt.json, image 10, segments_info[1], id 2: area is NaN, infinite or beyond all bounds, expected a number',
    ),
    'negative area': (
        setting(-8, 'truth', *SEGMENT, 'area'),
        'gt.json, image 10, segments_info[1], id 2: area is -8, expected a number >= 0',
    ),
    'unknown category': (
        setting(5, 'prediction', *SEGMENT, 'category_id'),
        'pred.json, image 10, segments_info[1]: category_id 5 is not in the ground truth',
    ),
    'doubled prediction': (
        setting(10, 'prediction', *ANNOTATION, 'image_id'),
        'pred.json, image 10: has several annotations',
    ),
    'doubled image': (
        setting(10, 'truth', *ANNOTATION, 'image_id'),
        'gt.json, image 10: has several annotations',
    ),
    'missing prediction': (without('prediction', *ANNOTATION), 'pred.json: no prediction of 1 of 3 images: 20'),
}
IN_PNGS = {
    'missing': (no_png('predicted'), 'pred/20.png (image 20): is missing'),
    'missing truth': (no_png('truth'), 'gt/20.png (image 20): is missing'),
    'a folder': (
        setting('.', 'prediction', *ANNOTATION, 'file_name'),
        'pred (image 20): is a folder',
    ),
    'empty': (png('predicted', b''), 'pred/20.png (image 20): is not a PNG'),
    'a JPEG': (png('predicted', JPEG), 'pred/20.png (image 20): is not a PNG'),
    'truncated': (png('predicted', lambda content: content[:-15]), 'pred/20.png (image 20): is truncated'),
    'no header': (
        png('truth', lambda content: content[:8] + content[-12:]),
        'gt/20.png (image 20): is truncated',
    ),
    'corrupt': (
        png('predicted', lambda content: content[:45] + b'\0' + content[46:]),
        'pred/20.png (image 20): cannot be decoded',
    ),
    'grey': (
        png('predicted', MAP.astype(np.uint8)),
        'pred/20.png (image 20): has grey channels of 8 bits, expected R, G, B of 8 bits',
    ),
    '16 bits': (png('truth', MAP.astype(np.uint16)), 'gt/20.png (image 20): has grey channels of 16 bits'),
    'alpha': (
        png('predicted', np.ones((4, 6, 4), np.uint8)),
        'pred/20.png (image 20): has R, G, B, alpha channels of 8 bits',
    ),
    'another size': (png('predicted', MAP[:3]), 'pred/20.png (image 20): 6 x 3 pixels, but '),
    'id without a segment': (
        png('predicted', MAP * (MAP < 9) + 8 * (MAP > 9)),
        'pred/20.png (image 20): the prediction map has ids that are not in its list of segments: [8]',
    ),
    'segment without a pixel': (
        png('predicted', MAP * (MAP < 9)),
        'pred/20.png (image 20): prediction segments without a pixel: [70000]',
    ),
    'impossible area': (
        setting(0, 'truth', *SEGMENT, 'area'),
        'gt/10.png (image 10): segment 2 has 8 pixels, its area in the JSON is 0',
    ),
    'area of another size': (
        setting(7.5, 'truth', *SEGMENT, 'area'),
        'gt/10.png (image 10): segment 2 has 8 pixels, its area in the JSON is 7.5',
    ),
}


@pytest.mark.parametrize(('change', 'message'), [*IN_JSON.values(), *IN_PNGS.values()], ids=[*IN_JSON, *IN_PNGS])
def test_what_is_broken_is_named(change, message, tmp_path, capsys):
    folder = small_folder(tmp_path)
    change(folder)
    files = folder.save()
    with pytest.raises(InputError) as error:
        evaluate_files(files)
    assert message in str(error.value)
    copied = pickle.loads(pickle.dumps(error.value))
    assert str(copied) == str(error.value) and copied.problems == error.value.problems
    output = tmp_path / 'metrics.json'
    assert folder.command('--output', str(output), '--workers', '1') == 1
    printed = capsys.readouterr()
    assert printed.err == f'{error.value}\n' and not printed.out and not output.exists()


@pytest.mark.parametrize('content', ['{"annotations": [', '[1, 2]', b'\xff\xfe\xfa'])
def test_json_that_is_none(content, tmp_path):
    folder = small_folder(tmp_path)
    files = folder.save()
    files.predicted_json.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r'pred.json: (is not valid JSON|it is \[1,2\], expected an object)'):
        evaluate_files(files)


def test_everything_that_is_missing_comes_at_once(tmp_path):
    files = PanopticFiles(*(tmp_path / name for name in ('gt.json', 'gt', 'pred.json', 'pred')))
    with pytest.raises(InputError) as error:
        read_pairs(files)
    lines = str(error.value).splitlines()
    assert lines == [
        '4 problems:',
        'missing file (2)',
        f'  {files.truth_json}: is missing',
        f'  {files.predicted_json}: is missing',
        'missing folder (2)',
        f'  {files.truth_folder}: no such folder of PNGs',
        f'  {files.predicted_folder}: no such folder of PNGs',
    ]


@pytest.mark.parametrize('workers', [1, 2])
def test_faults_of_many_images_are_gathered_and_shortened(workers, tmp_path):
    folder, _ = random_folder(tmp_path, 40)
    files = folder.save()
    for number in range(7):
        (files.predicted_folder / f'{1000 - 5 * number}.png').unlink()
    write_ids(files.truth_folder / '963.png', np.zeros((3, 3)))
    with pytest.raises(InputError) as error:
        evaluate_files(files, workers=workers)
    gone = [f'  {files.predicted_folder}/{1000 - 5 * n}.png (image {1000 - 5 * n}): is missing' for n in range(7)]
    *first, second = str(error.value).splitlines()
    assert first == [
        '8 problems:', 'broken or missing PNG (7)', *gone[:5], '  ... and 2 more', 'PNG of another size (1)',
    ]  # fmt: skip
    assert second.startswith(f'  {files.predicted_folder}/963.png (image 963): ')
    assert second.endswith(f' pixels, but {files.truth_folder}/963.png is 3 x 3 pixels')
    assert len(error.value.problems) == 8


def test_predictions_that_are_missing_are_counted(tmp_path):
    folder, _ = random_folder(tmp_path, 9)
    del folder.prediction['annotations'][:7]
    with pytest.raises(
        InputError, match=r'pred.json: no prediction of 7 of 9 images: 998, 997, 996, 995, 994, and 2 more'
    ):
        evaluate_files(folder.save())


def test_an_output_that_cannot_be_written_is_named(tmp_path, capsys):
    folder = small_folder(tmp_path)
    folder.save()
    assert folder.command('--output', str(tmp_path), '--workers', '0') == 1
    assert capsys.readouterr().err == f'{tmp_path}: cannot be written: Is a directory\n'
    assert not list(tmp_path.parent.glob('*.unfinished'))

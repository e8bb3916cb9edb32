"""Image files without annotations: which are found, and what is said of broken ones."""

import cv2
import numpy as np
import pytest

from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.records.images import ImageError, bare_record, find_images, read_image

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'inner').mkdir()
    for name in ('b.png', 'a.JPG', '.hidden.png', 'inner/c.png'):
        (tmp_path / name).write_bytes(encoded(name[-4:].lower()))
    (tmp_path / 'notes.txt').write_text('no image')
    return tmp_path


def encoded(suffix, image=IMAGE, *flags):
    return cv2.imencode(suffix, image[..., ::-1], flags)[1].tobytes()


def test_folders_give_their_images_by_name_and_each_image_comes_once(folder):
    named = folder / 'b.png'
    assert find_images([str(named), folder, folder / 'inner']) == [named, folder / 'a.JPG', folder / 'inner' / 'c.png']


def test_what_is_missing_or_empty_is_named(folder):
    with pytest.raises(ImageError, match='nowhere.jpg: no such image'):
        find_images([folder, folder / 'nowhere.jpg'])
    (folder / 'empty').mkdir()
    with pytest.raises(ImageError, match='empty: no images in this folder'):
        find_images([folder / 'empty'])


def test_a_record_has_the_image_and_no_annotations(folder):
    np.testing.assert_array_equal(read_image(folder / 'b.png'), IMAGE)
    record = bare_record((folder / 'b.png').read_bytes(), 5, 'b.png', IMAGE.shape[:2])
    np.testing.assert_array_equal(record.image(), IMAGE)
    example = make_example(record, ExampleSettings((64, 64), 48, 64, max_instances=3, num_stuff=4))
    assert example['original_size'].tolist() == [30, 40] and example['image_size'].tolist() == [48, 64]
    assert not example['valid'].any() and not example['has_instances'] and not example['has_panoptic']


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
@pytest.mark.parametrize('share', [0.0, 0.02, 0.6, 0.99])
def test_truncated_images_are_refused(tmp_path, suffix, share):
    content = encoded(suffix)
    path = tmp_path / f'image{suffix}'
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match=f'image{suffix}: .*truncated'):
        read_image(path)


@pytest.mark.parametrize('flags', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_a_thumbnail_in_the_header_does_not_hide_that_a_jpeg_is_truncated(tmp_path, flags):
    content, thumbnail = encoded('.jpg', IMAGE, *flags), encoded('.jpg', IMAGE[::4, ::4])
    header = b'\xff\xe7' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    whole = content[:2] + b'\xff' + header + content[2:]
    path = tmp_path / 'image.jpg'
    path.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(ImageError, match='image.jpg: .*truncated'):
        read_image(path)
    # Cameras append sound or a film.
    path.write_bytes(whole + b'\xff\xda appended')
    assert read_image(path).shape == IMAGE.shape


def test_a_text_is_no_image(tmp_path):
    (tmp_path / 'image.png').write_text('no image at all')
    with pytest.raises(ImageError, match='image.png: no image that can be decoded'):
        read_image(tmp_path / 'image.png')

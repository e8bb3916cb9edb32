"""Image files without annotations: which are found, and what is said of broken ones."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from sognet_jax.data.examples.transforms import ExampleSettings, make_example
from sognet_jax.data.records.images import (
    ImageError,
    decode_image,
    find_images,
    is_turned,
    read_image,
    require_usable,
)
from sognet_jax.data.records.schema import Record

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
    (folder / 'empty' / 'gone.jpg').symlink_to('/no/such/disk/1.jpg')
    with pytest.raises(ImageError, match='gone.jpg: cannot be read: No such file'):
        read_image(*find_images([folder / 'empty']))


def test_a_record_has_the_image_and_no_annotations(folder):
    np.testing.assert_array_equal(read_image(folder / 'b.png'), IMAGE)
    record = Record((folder / 'b.png').read_bytes(), 5, 'b.png', IMAGE.shape[:2])
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


def zero_tail(content):
    return content[: len(content) // 3] + bytes(len(content) - len(content) // 3 - 2) + content[-2:]


def enormous(content):
    header = content[12:16] + b'\x00\x00\xff\xff' * 2 + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, 'big') + content[33:]


DAMAGED = {
    'a tail of zeros': ('.jpg', zero_tail, 'this JPEG is damaged or truncated'),
    'a cut with an end': ('.jpg', lambda c: c[: len(c) // 2] + c[-2:], 'this JPEG is damaged or truncated'),
    'a part of enormous length': ('.png', lambda c: c[:33] + b'\x50' + c[34:], 'is truncated, or has a damaged part'),
    'an enormous size': ('.png', enormous, 'is 65535 x 65535 .*more than'),
}


@pytest.mark.parametrize(('suffix', 'damage', 'message'), DAMAGED.values(), ids=DAMAGED)
def test_damage_that_decoders_paint_over_or_choke_on_is_named(tmp_path, suffix, damage, message):
    path = tmp_path / f'image{suffix}'
    path.write_bytes(damage(encoded(suffix, np.tile(IMAGE, (8, 8, 1)))))
    with pytest.raises(ImageError, match=f'image{suffix}: .*{message}'):
        read_image(path)


def test_bytes_too_many_in_a_jpeg_harm_nobody(tmp_path):
    content = encoded('.jpg')
    (tmp_path / 'more.jpg').write_bytes(content[:-2] + b'abc' + content[-2:] + b'behind')
    (tmp_path / 'plain.jpg').write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / 'more.jpg'), read_image(tmp_path / 'plain.jpg'))


def test_16_bits_are_taken_as_opencv_does_and_12_in_16_are_refused(tmp_path):
    path = tmp_path / 'deep.png'
    cv2.imwrite(str(path), IMAGE[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
    dark = IMAGE[..., ::-1].astype(np.uint16) * 16
    dark[3, 5] = 65535  # a pixel that is always bright
    cv2.imwrite(str(path), dark)
    with pytest.raises(
        ImageError, match='deep.png: has uint16 values up to 40.*save it with 8 bits .* 0..40.* stretched'
    ):
        read_image(path)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_an_orientation_that_turns_a_picture_is_known(kind):
    for orientation in range(10):
        picture = Image.fromarray(IMAGE)
        exif = picture.getexif()
        exif[0x112] = orientation
        file = io.BytesIO()
        picture.save(file, kind, exif=exif)
        stored = cv2.imdecode(
            np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
        assert is_turned(file.getvalue()) != np.array_equal(stored, decode_image(file.getvalue()))


@pytest.mark.parametrize(('size', 'is_refused'), [((2, 3000), True), ((3000, 93), True), ((64, 2048), False)])
def test_images_that_vanish_when_they_are_resized_are_refused(size, is_refused):
    settings = ExampleSettings((64, 64), 64, 64, max_instances=3, num_stuff=4)
    if is_refused:
        with pytest.raises(ValueError, match=f'is {size[0]} x {size[1]} .* times as long as wide'):
            require_usable(size)
        return
    require_usable(size)
    record = Record(encoded('.png', np.zeros((*size, 3), np.uint8)), 5, 'b.png', size)
    assert make_example(record, settings)['image_size'].min() >= 2

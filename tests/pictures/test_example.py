"""Pictures of examples: every array that can be seen is on its own panels."""

import dataclasses

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.contract import SEMANTIC_IGNORE
from sognet_jax.data.examples.transforms import ExampleSettings, make_example, mask_in_box
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.pictures.example import PANEL, example_picture, paste_masks

SETTINGS = ExampleSettings((128, 160), 128, 160, max_instances=10, num_stuff=SHAPES.num_stuff)
GAP, HEADER = 12, 22
BOXES, MASKS, SEMANTIC, PANOPTIC, GRAPH, FACTS = ((row, column) for row in range(2) for column in range(3))


def panel(picture, place, side=PANEL[0]):
    """One panel of a square image's picture, without its title."""
    row, column = place
    top, left = GAP + HEADER + row * (side + HEADER + GAP), GAP + column * (side + GAP)
    return picture[top : top + side, left : left + side].astype(int)


def changed_panels(first, second):
    places = (BOXES, MASKS, SEMANTIC, PANOPTIC, GRAPH, FACTS)
    return {place for place in places if np.any(panel(first, place) != panel(second, place))}


@pytest.fixture(scope='module')
def record():
    return max((draw(ShapesSettings(), 0, index) for index in range(20)), key=lambda record: len(record.pairs.first))


@pytest.fixture
def example(record):
    return make_example(record, SETTINGS)


def test_pasted_masks_are_the_annotations(record):
    masks = np.stack([coco_mask.decode(rle) for rle in record.instances.rles])
    small = np.stack([mask_in_box(mask, box) for mask, box in zip(masks, record.instances.box, strict=True)])
    for factor in (1, 3):
        whole = masks.repeat(factor, 1).repeat(factor, 2).astype(bool)
        pasted = paste_masks(small, record.instances.box * factor, whole.shape[1:])
        assert pasted.shape == whole.shape
        # Of what is fewer than a pixel of the annotation from an edge, nothing is said.
        kernel = np.ones((2 * factor + 1,) * 2, np.uint8)
        for mask, found in zip(whole.astype(np.uint8), pasted, strict=True):
            core = cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE)
            assert np.all(found[core > 0]) and not np.any(found & (cv2.dilate(mask, kernel) == 0))


def test_panels_show_what_is_on_the_image_without_its_padding(example):
    picture = example_picture(example, SHAPES)
    assert picture.dtype == np.uint8 and picture.shape[0] == 2 * (PANEL[0] + HEADER + GAP) + GAP
    padded = dict(example)
    padded['image'] = np.pad(example['image'], ((0, 32), (0, 0), (0, 0)))
    padded['semantic'] = np.pad(example['semantic'], ((0, 32), (0, 0)), constant_values=SEMANTIC_IGNORE)
    padded['panoptic'] = np.pad(example['panoptic'], ((0, 8), (0, 0)), constant_values=-1)
    assert changed_panels(picture, example_picture(padded, SHAPES)) == {FACTS}


@pytest.mark.parametrize('place', [SEMANTIC, PANOPTIC])
def test_label_maps_have_the_colours_of_their_classes(example, place):
    picture = panel(example_picture(example | {'image': np.full_like(example['image'], 128)}, SHAPES), place)
    semantic = example['semantic'][:128, :128]
    stuff = np.flatnonzero(np.bincount(semantic.ravel(), minlength=256)[: SHAPES.num_stuff] > 400)
    assert len(stuff)
    enlarged = cv2.resize(semantic, picture.shape[:2], interpolation=cv2.INTER_NEAREST)
    for train_id in stuff:
        expected = 0.25 * 128 + 0.75 * np.array(SHAPES.stuff[train_id].color)
        np.testing.assert_allclose(np.median(picture[enlarged == train_id], axis=0), expected, atol=2)


def test_ignored_pixels_are_striped_grey(example):
    image = np.full_like(example['image'], 128)
    unlabelled = example | {'image': image, 'semantic': np.full_like(example['semantic'], SEMANTIC_IGNORE)}
    stripes = panel(example_picture(unlabelled, SHAPES), SEMANTIC)
    assert np.ptp(stripes, axis=-1).max() <= 6 and len(np.unique(stripes[..., 0])) == 2


def test_an_array_changes_its_own_panels(example):
    picture = example_picture(example, SHAPES)
    last = np.flatnonzero(example['valid'])[-1]
    crowd, masks = example['crowd'].copy(), example['masks'].copy()
    crowd[last], masks[last, :, :56] = True, 0
    assert changed_panels(picture, example_picture(example | {'crowd': crowd}, SHAPES)) == {BOXES, MASKS, FACTS}
    assert MASKS in changed_panels(picture, example_picture(example | {'masks': masks}, SHAPES))
    reversed_order = example | {'order': example['order'].T}
    assert changed_panels(picture, example_picture(reversed_order, SHAPES)) == {GRAPH, FACTS}
    undecided = example | {'order': np.zeros_like(example['order']), 'decided': ~example['overlap']}
    assert changed_panels(picture, example_picture(undecided, SHAPES)) == {GRAPH, FACTS}
    assert changed_panels(picture, example_picture(example | {'mirrored': np.bool_(True)}, SHAPES)) == {FACTS}
    assert changed_panels(picture, example_picture(example | {'dropped': np.int32(3)}, SHAPES)) == {FACTS}


def test_decided_pairs_have_arrows_and_undecided_ones_have_none(example):
    def red(example):
        grey = example | {'image': np.full_like(example['image'], 200)}
        graph = panel(example_picture(grey, SHAPES), GRAPH)
        return np.count_nonzero(graph[..., 0] - graph[..., 1] > 60)

    assert red(example) > 200
    assert not red(example | {'order': np.zeros_like(example['order']), 'decided': ~example['overlap']})


def test_a_picture_of_an_example_without_anything(record):
    settings = dataclasses.replace(SETTINGS, max_instances=0)
    example = make_example(dataclasses.replace(record, has_panoptic=False, has_instances=False), settings)
    assert example_picture(example, SHAPES).dtype == np.uint8


@pytest.mark.parametrize('size', [(32, 512), (512, 32)])
def test_narrow_images_have_pictures(example, size):
    height, width = size
    picture = example_picture(
        example
        | {
            'image': np.zeros((height, width, 3), np.uint8),
            'image_size': np.array(size, np.int32),
            'semantic': np.zeros(size, np.uint8),
            'panoptic': np.zeros((height // 4, width // 4), np.int16),
        },
        SHAPES,
    )
    assert picture.shape[0] > 400 and picture.shape[1] > 440

"""Drawn scenes of known order, written in the layouts of InstaOrder, COCOA, KINS and SynTable."""

import dataclasses
import json

import cv2
import numpy as np
from pycocotools import mask as coco_mask

SIZE = (40, 60)
SPLITS = {
    'instaorder': 'InstaOrder_val2017',
    'cocoa': 'COCO_amodal_val2014',
    'kins': 'instances_val',
    'syntable': 'table',
}
IMAGES = {'instaorder': 'val2017', 'cocoa': 'val2014', 'kins': 'testing/image_2', 'syntable': 'rgb'}
NAMES = ('cup', 'plate')


@dataclasses.dataclass
class Painted:
    """Rectangles, the first at the back: `[n, h, w]` whole and visible masks."""

    name: str
    whole: np.ndarray
    visible: np.ndarray

    def over(self):
        """`[n, n]` by loops: i was painted after j, and they share pixels."""
        count = len(self.whole)
        pairs = [(i, j) for i in range(count) for j in range(i) if (self.whole[i] & self.whole[j]).any()]
        matrix = np.zeros((count, count), bool)
        for i, j in pairs:
            matrix[i, j] = True
        return matrix


def paint(rng, count, name, size=SIZE):
    whole = np.zeros((count, *size), bool)
    for mask in whole:
        (top, bottom), (left, right) = (np.sort(rng.choice(side, 2, replace=False)) for side in size)
        mask[top : bottom + 1, left : right + 1] = True
    visible = whole.copy()
    for i in range(count):
        visible[i] &= ~whole[i + 1 :].any(axis=0)
    return Painted(name, whole, visible)


def encode(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': rle['size'], 'counts': rle['counts'].decode()}


def polygon(mask):
    """The outline of a rectangle."""
    ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    x1, y1, x2, y2 = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def instance_id(image, row):
    return 100 * (image + 1) + row


def write(root, form, scenes):
    """Writes scenes as `form`; returns the folder."""
    folder = root / ('annotations' if form in ('instaorder', 'cocoa') else '')
    for path in (folder, root / IMAGES[form]):
        path.mkdir(parents=True, exist_ok=True)
    prefix = 'rgb/' if form == 'syntable' else ''
    images = [
        {'id': number + 1, 'file_name': prefix + scene.name, 'height': SIZE[0], 'width': SIZE[1]}
        for number, scene in enumerate(scenes)
    ]
    for scene in scenes:
        cv2.imwrite(str(root / IMAGES[form] / scene.name), np.full((*SIZE, 3), 90, np.uint8))
    content = WRITERS[form](root, folder, images, scenes)
    (folder / f'{SPLITS[form]}.json').write_text(json.dumps(content))
    return root


def _coco(images, scenes, extra):
    """COCO's layout with a field of the visible mask."""
    annotations = [
        {'id': instance_id(number, row), 'image_id': number + 1, 'category_id': row % 2 + 1, 'iscrowd': 0}
        | extra(scene.whole[row], scene.visible[row])
        for number, scene in enumerate(scenes)
        for row in range(len(scene.whole))
    ]
    categories = [{'id': 1, 'name': NAMES[0]}, {'id': 2, 'name': NAMES[1]}]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def _write_instaorder(root, folder, images, scenes):
    coco = _coco(images, scenes, lambda whole, visible: {'segmentation': encode(whole)})
    (folder / 'instances_val2017.json').write_text(json.dumps(coco))
    annotations = []
    for number, scene in enumerate(scenes):
        occlusion = [{'order': f'{i}<{j}', 'count': 2} for i, j in np.argwhere(scene.over()).tolist()]
        ids = [instance_id(number, row) for row in range(len(scene.whole))]
        annotations.append({'image_id': number + 1, 'instance_ids': ids, 'occlusion': occlusion, 'depth': []})
    return {'annotations': annotations}


def _write_cocoa(root, folder, images, scenes):
    annotations = []
    for number, scene in enumerate(scenes):
        regions = [
            {'segmentation': polygon(whole), 'name': 'thing', 'order': row + 1}
            | ({'visible_mask': encode(visible)} if (whole != visible).any() else {})
            for row, (whole, visible) in enumerate(zip(scene.whole, scene.visible, strict=True))
        ]
        annotations.append({'image_id': number + 1, 'regions': regions})
    return {'images': images, 'annotations': annotations}


def _write_kins(root, folder, images, scenes):
    return _coco(
        images, scenes, lambda whole, visible: {'segmentation': [polygon(whole)], 'inmodal_seg': encode(visible)}
    )


def _write_syntable(root, folder, images, scenes):
    (root / 'occlusion_order').mkdir()
    for image, scene in zip(images, scenes, strict=True):
        image['occlusion_order_file_name'] = f'occlusion_order/{image["id"]}.npy'
        np.save(root / image['occlusion_order_file_name'], scene.over().astype(float))
    return _coco(
        images, scenes, lambda whole, visible: {'segmentation': encode(whole), 'visible_mask': encode(visible)}
    )


WRITERS = {
    'instaorder': _write_instaorder, 'cocoa': _write_cocoa, 'kins': _write_kins, 'syntable': _write_syntable,
}  # fmt: skip

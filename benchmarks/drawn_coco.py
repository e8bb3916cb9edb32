"""A folder in COCO's layout with drawn scenes of 480 x 640 pixels, for measurements that need no download."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.data.records.schema import Record
from sognet_jax.data.sources.shapes.composition import SceneSettings, draw_scene
from sognet_jax.id_maps import encode_ids

SCENE = SceneSettings(size=(480, 640), min_instances=7, max_instances=12, smallest=40, largest=230, spread=110)
JPEG_QUALITY = 90


def draw_folder(folder: pathlib.Path, split: str, count: int) -> None:
    """Draws `count` scenes, with JPEG images, panoptic PNGs, polygons and both JSON files."""
    panoptic_folder = folder / 'annotations' / f'panoptic_{split}'
    panoptic_folder.mkdir(parents=True)
    (folder / split).mkdir()
    categories = [
        {'id': category.id, 'name': category.name, 'isthing': int(train_id >= SHAPES.num_stuff)}
        for train_id, category in enumerate(SHAPES.all)
    ]
    images, instances, panoptic = [], [], []
    for image_id in range(1, count + 1):
        record = draw_scene(np.random.default_rng(image_id), SCENE, image_id)
        height, width = record.size
        image = cv2.cvtColor(record.image(), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / split / f'{image_id}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (panoptic_folder / f'{image_id}.png').write_bytes(encode_ids(record.panoptic_ids()))
        images.append({'id': image_id, 'file_name': f'{image_id}.jpg', 'height': height, 'width': width})
        instances += _instance_entries(record)
        segments = _segment_entries(record)
        panoptic.append({'image_id': image_id, 'file_name': f'{image_id}.png', 'segments_info': segments})
    for kind, entries in (('instances', instances), ('panoptic', panoptic)):
        things = [category for category in categories if kind == 'panoptic' or category['isthing']]
        content = {'images': images, 'annotations': entries, 'categories': things}
        (folder / 'annotations' / f'{kind}_{split}.json').write_text(json.dumps(content))


def _instance_entries(record: Record) -> list[dict[str, Any]]:
    """Polygons around the outlines (holes are filled), as people draw them."""
    instances, entries = record.instances, []
    for index, rle in enumerate(instances.rles):
        outlines, _ = cv2.findContours(coco_mask.decode(rle), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        x1, y1, x2, y2 = instances.box[index].tolist()
        entries.append(
            {
                'id': record.image_id * 1000 + index,
                'image_id': record.image_id,
                'category_id': SHAPES.things[instances.category[index]].id,
                'iscrowd': 0,
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'area': int(coco_mask.area(rle)),
                'segmentation': [outline.ravel().tolist() for outline in outlines if len(outline) > 2],
            }
        )
    return entries


def _segment_entries(record: Record) -> list[dict[str, Any]]:
    ids, segments = record.panoptic_ids(), record.segments
    return [
        {
            'id': int(segment_id),
            'category_id': SHAPES.all[train_id].id,
            'iscrowd': 0,
            'bbox': list(cv2.boundingRect((ids == segment_id).astype(np.uint8))),
            'area': int((ids == segment_id).sum()),
        }
        for segment_id, train_id in zip(segments.id, segments.category, strict=True)
    ]

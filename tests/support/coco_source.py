"""A small data set of one's own in COCO's layout, drawn, that tests then change."""

import json

from pycocotools import mask as coco_mask

from sognet_jax.categories import SHAPES
from sognet_jax.category_files import categories_to_json
from sognet_jax.data.records.png import encode_image
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.data.sources.shapes.composition import SceneSettings
from sognet_jax.id_maps import encode_ids

SPLIT = 'train'


def write_source(root, count=2, *, size=(64, 64), panoptic=True, first=0):
    """Drawn scenes as images, instances, and (if asked for) panoptic PNGs; `categories.json` beside them."""
    (root / 'annotations' / f'panoptic_{SPLIT}').mkdir(parents=True)
    (root / SPLIT).mkdir()
    settings = ShapesSettings(SceneSettings(size=size, max_instances=4))
    images, instances, maps = [], [], []
    for number in range(first, first + count):
        record = draw(settings, 0, number)
        height, width = record.size
        name = f'{number:03d}'
        (root / SPLIT / f'{name}.png').write_bytes(encode_image(record.image()))
        images.append({'id': number + 1, 'file_name': f'{name}.png', 'height': height, 'width': width})
        for row, (category, rle) in enumerate(zip(record.instances.category, record.instances.rles, strict=True)):
            x, y, w, h = coco_mask.toBbox(rle).tolist()
            instances.append(
                {
                    'id': 100 * number + row + 1,
                    'image_id': number + 1,
                    'category_id': SHAPES.things[category].id,
                    'iscrowd': 0,
                    'bbox': [x, y, w, h],
                    'area': int(coco_mask.area(rle)),
                    'segmentation': {'size': list(record.size), 'counts': rle['counts'].decode()},
                }
            )
        ids = record.panoptic_ids()
        segments = [
            {'id': int(i), 'category_id': SHAPES.all[c].id, 'iscrowd': 0, 'area': int((ids == i).sum())}
            for i, c in zip(record.segments.id, record.segments.category, strict=True)
        ]
        (root / 'annotations' / f'panoptic_{SPLIT}' / f'{name}.png').write_bytes(encode_ids(ids))
        maps.append({'image_id': number + 1, 'file_name': f'{name}.png', 'segments_info': segments})
    everything = categories_to_json(SHAPES)
    things = [entry for entry in everything if entry['isthing']]
    files = {'instances': (instances, [{k: t[k] for k in ('id', 'name')} for t in things])}
    if panoptic:
        files['panoptic'] = (maps, everything)
    for kind, (annotations, categories) in files.items():
        content = {'images': images, 'annotations': annotations, 'categories': categories}
        (root / 'annotations' / f'{kind}_{SPLIT}.json').write_text(json.dumps(content))
    (root / 'categories.json').write_text(json.dumps(everything if panoptic else files['instances'][1]))
    return root

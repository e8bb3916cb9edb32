"""Predicted scenes as others read them: who lies on whom, and COCO results."""

import pathlib
from collections.abc import Sequence
from typing import Any

from sognet_jax.data.records.relations import rle_as_text
from sognet_jax.inference.pasting import encode_masks
from sognet_jax.order.entry import order_entry
from sognet_jax.scene import Scene

Entry = dict[str, Any]


def scene_order(file_name: str, scene: Scene) -> Entry:
    """What `order.json` says of a scene, see `order_entry`; ids are those of the panoptic map."""
    instances = [{'id': one.id, 'category': one.name, 'score': round(one.score or 0.0, 4)} for one in scene.instances]
    return order_entry(file_name, instances, scene.relations)


def image_ids(paths: Sequence[pathlib.Path]) -> list[int] | list[str]:
    """What COCO results call images: the numbers that are their names, as in COCO, or else the names."""
    names = [path.stem for path in paths]
    numbers = {int(name) for name in names if name.isdecimal()}
    return [int(name) for name in names] if len(numbers) == len(names) else names


def coco_results(image_id: int | str, scene: Scene, order: Entry) -> list[Entry]:
    """The instances of a scene as COCO results, with their whole masks, which overlap.

    Beside what COCO asks for stand `segment_id`, which is the `id` in `order`, and the `layer`, 0 at the back.
    """
    return [
        {
            'image_id': image_id,
            'category_id': scene.categories.all[instance.category].id,
            'segmentation': rle_as_text(rle),
            'score': ordered['score'],
            'segment_id': instance.id,
            'layer': ordered['layer'],
        }
        for instance, ordered, rle in zip(scene.instances, order['instances'], encode_masks(scene.masks), strict=True)
    ]

"""A small folder in Cityscapes' layout: polygons, and what painting them one after the other gives.

The official tool paints with PIL; `cv2.fillPoly`, which is used here, keeps a few more pixels of the outlines.
"""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np

SIZE = (64, 128)
NAME = 'frankfurt_000000_000294'
EMPTY = 'lindau_000001_000019'

IDS = {
    'ego vehicle': 1, 'parking': 9, 'road': 7, 'pole': 17, 'polegroup': 18, 'sky': 23, 'person': 24, 'rider': 25,
    'car': 26, 'bus': 28, 'caravan': 29, 'bicycle': 33,
}  # fmt: skip
FIRST_THING = 24

Object = dict[str, object]
Breaks = Callable[[pathlib.Path], object]


def rectangle(label: str, left: int, top: int, right: int, bottom: int, deleted: int = 0) -> Object:
    """An object of a polygon file whose corner pixels, all four of them inside, are these."""
    polygon = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {'label': label, 'polygon': polygon, 'deleted': deleted}


STREET = (
    rectangle('sky', 0, 0, 127, 15),
    rectangle('road', 0, 16, 127, 63),
    rectangle('ego vehicle', 0, 58, 127, 63),
    rectangle('car', 10, 20, 39, 44),  # 26000
    rectangle('car', 30, 24, 59, 49),  # 26001, on 26000: 10 x 21 pixels
    rectangle('car', 0, 0, 127, 63, deleted=1),
    rectangle('car', 49, 30, 53, 35),  # 26002, wholly hidden by the bus
    rectangle('cargroup', 34, 40, 70, 54),  # 26, on two cars
    rectangle('caravan', 80, 16, 99, 39),  # 29000
    rectangle('car', 94, 20, 109, 39),  # 26003, on the caravan
    rectangle('person', 37, 18, 44, 48),  # 24000, on 26000 and 26001
    rectangle('license plate', 12, 40, 16, 42),
    rectangle('bus', 48, 26, 54, 38),  # 28000, on 26001
    rectangle('bicycle', 104, 44, 119, 57),  # 33000
    rectangle('rider', 108, 34, 115, 53),  # 25000, on the bicycle
    rectangle('pole', 108, 42, 115, 53),  # hides their intersection
    rectangle('polegroup', 122, 20, 127, 40),
    rectangle('persongroup', 70, 50, 76, 57),  # 24
    rectangle('person', -9, 30, 3, 57),  # 24001, reaches over the side
)


def random_street(generator: np.random.Generator, count: int = 40) -> list[Object]:
    """Overlapping polygons, some beyond the sides."""
    labels = ('car', 'car', 'car', 'person', 'rider', 'bus', 'caravan', 'cargroup', 'persongroup', 'pole')
    objects = [rectangle('road', 0, 0, SIZE[1], SIZE[0])]
    for _ in range(count):
        centre = generator.uniform(0, SIZE[::-1])
        angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 9)))
        radii = generator.uniform(8, 24) * generator.uniform(0.5, 1, len(angles))
        points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        objects.append(
            {'label': str(generator.choice(labels)), 'polygon': np.rint(points).astype(int).tolist()}
            | ({'deleted': 1} if generator.random() < 0.1 else {})
        )
    return objects


def paint(objects: Sequence[Object]) -> tuple[np.ndarray, dict[int, int]]:
    """What the official tool makes of objects.

    Returns:
        `[h, w]` uint16 instance ids, and the number in `objects` of each id that a single instance has.
    """
    ids, numbers = np.zeros(SIZE, np.uint16), {}
    seen: collections.Counter[str] = collections.Counter()
    for number, entry in enumerate(objects):
        name = entry['label']
        is_group = name not in IDS and name.endswith('group')
        name = name[: -len('group')] if is_group else name
        if entry.get('deleted') or name == 'license plate':
            continue
        value = IDS[name]
        if value >= FIRST_THING and not is_group:
            value = 1000 * value + seen[name]
            seen[name] += 1
            numbers[value] = number
        cv2.fillPoly(ids, [np.array(entry['polygon'], np.int32)], value)
    return ids, numbers


def files(root: pathlib.Path, name: str, split: str = 'val') -> dict[str, pathlib.Path]:
    """The files of an image: `image`, `ids` and `polygons`."""
    city = name.split('_')[0]
    annotation = root / 'gtFine' / split / city
    return {
        'image': root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png',
        'ids': annotation / f'{name}_gtFine_instanceIds.png',
        'polygons': annotation / f'{name}_gtFine_polygons.json',
    }


def write_image(root: pathlib.Path, name: str, objects: Sequence[Object], split: str = 'val') -> None:
    """Adds an image of one grey with its annotations."""
    paths = files(root, name, split)
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(paths['image']), np.full((*SIZE, 3), 90, np.uint8))
    cv2.imwrite(str(paths['ids']), paint(objects)[0])
    content = {'imgHeight': SIZE[0], 'imgWidth': SIZE[1], 'objects': list(objects)}
    paths['polygons'].write_text(json.dumps(content))


def write_fixture(root: pathlib.Path) -> pathlib.Path:
    """A val split of a street (see `STREET`) and of an image with stuff alone, and a test split of one image."""
    write_image(root, NAME, STREET)
    write_image(root, EMPTY, [rectangle('road', 0, 0, 127, 63)])
    write_image(root, 'berlin_000000_000019', [rectangle('parking', 0, 0, 127, 63)], 'test')
    return root


def change_polygons(edit: Callable[[dict], object]) -> Breaks:
    """Edits the polygon file of the street."""

    def breaks(root: pathlib.Path) -> None:
        path = files(root, NAME)['polygons']
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return breaks


def edit_object(index: int, **fields: object) -> Breaks:
    """Gives fields of an object of the street other values."""
    return change_polygons(lambda content: content['objects'][index].update(fields))


def change_ids(edit: Callable[[np.ndarray], np.ndarray]) -> Breaks:
    """Edits the map of instance ids of the street."""

    def breaks(root: pathlib.Path) -> None:
        path = str(files(root, NAME)['ids'])
        cv2.imwrite(path, edit(cv2.imread(path, cv2.IMREAD_UNCHANGED)))

    return breaks


def replace_id(old: int, new: int) -> Breaks:
    """Gives an instance of the street's map another id."""
    return change_ids(lambda ids: np.where(ids == old, new, ids).astype(np.uint16))


def truncate(kind: str) -> Breaks:
    """Cuts a file of the street in two."""

    def breaks(root: pathlib.Path) -> None:
        path = files(root, NAME)[kind]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return breaks


def write_text(kind: str, text: str) -> Breaks:
    """Puts a text in the place of a file of the street."""
    return lambda root: files(root, NAME)[kind].write_text(text)

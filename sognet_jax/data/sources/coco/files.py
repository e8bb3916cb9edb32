"""The annotation files of the COCO layout, and the checks that need no image.

    SOURCE/annotations/instances_SPLIT.json
    SOURCE/annotations/panoptic_SPLIT.json and SOURCE/annotations/panoptic_SPLIT/*.png
    SOURCE/annotations/image_info_SPLIT.json
    SOURCE/SPLIT/*.jpg

Any one of the three JSON files is enough. `image_info` lists images without annotations, as COCO has it for test-dev.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from typing import Any

from sognet_jax.categories import CategorySet
from sognet_jax.data.sources.problems import AnnotationError, Problem

Entry = dict[str, Any]

IMAGE_FIELDS = {'id': int, 'file_name': str, 'height': int, 'width': int}


@dataclasses.dataclass(frozen=True)
class CocoSplit:
    """The annotations of one split, indexed by image.

    Attributes:
        source: the folder in the official layout.
        name: the split, for example `val2017`.
        images: image entries of all files, in order of their ids.
        instances: instance annotations by image id, empty lists included; without the images that the file lacks.
        panoptic: panoptic annotation by image id.
        problems: what is wrong with the files.
    """

    source: pathlib.Path
    name: str
    images: list[Entry]
    instances: dict[int, list[Entry]]
    panoptic: dict[int, Entry]
    problems: list[Problem]

    @property
    def image_folder(self) -> pathlib.Path:
        """Where the images are: COCO keeps those of `test-dev2017` in `test2017`."""
        folder = self.source / self.name
        return folder if folder.is_dir() else self.source / self.name.replace('-dev', '')


def annotation_files(source: pathlib.Path, name: str) -> dict[str, pathlib.Path]:
    """Where the annotations of a split may be: `instances`, `panoptic` and `image_info`."""
    return {kind: source / 'annotations' / f'{kind}_{name}.json' for kind in ('instances', 'panoptic', 'image_info')}


def read_split(source: str | pathlib.Path, name: str, categories: CategorySet) -> CocoSplit:
    """Reads the annotation files of a split.

    Args:
        source: the folder in the official layout.
        name: the split.
        categories: what the files' own categories are compared with.

    Returns:
        The split, with everything that is wrong in its `problems`.

    Raises:
        AnnotationError: the folder or all of the files are missing, or a file is no JSON of the right form.
    """
    source = pathlib.Path(source)
    if not source.is_dir():
        text = f'data.source = {str(source)!r} is no folder; expected the official COCO layout there'
        raise AnnotationError([Problem('missing source', str(source), text)])
    files = {kind: path for kind, path in annotation_files(source, name).items() if path.is_file()}
    if not files:
        expected = ', '.join(path.name for path in annotation_files(source, name).values())
        raise AnnotationError([Problem('missing file', str(source / 'annotations'), f'has none of {expected}')])
    problems: list[Problem] = []
    contents = {kind: _read_json(path, kind) for kind, path in files.items()}
    images: dict[int, Entry] = {}
    listed: dict[str, set[int]] = {}
    for kind, content in contents.items():
        found = _images(files[kind], content['images'], problems)
        _compare_images(files[kind], images, found, problems)
        images |= found
        listed[kind] = set(found)
        _compare_categories(files[kind], content.get('categories', []), categories, problems)
    instances: dict[int, list[Entry]] = {}
    panoptic: dict[int, Entry] = {}
    if 'instances' in files:
        instances = _instances(files['instances'], contents['instances'], listed['instances'], problems)
    if 'panoptic' in files:
        panoptic = _panoptic(files['panoptic'], contents['panoptic'], listed['panoptic'], problems)
    return CocoSplit(source, name, [images[i] for i in sorted(images)], instances, panoptic, problems)


def _read_json(path: pathlib.Path, kind: str) -> Entry:
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError([Problem('broken JSON', str(path), f'is not valid JSON: {error}')]) from error
    for field in ('images',) if kind == 'image_info' else ('images', 'annotations'):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise AnnotationError([Problem('missing field', str(path), f'has no field {field!r} with a list')])
    return content


def _images(path: pathlib.Path, entries: list[Any], problems: list[Problem]) -> dict[int, Entry]:
    """The usable image entries by id."""
    images: dict[int, Entry] = {}
    for index, entry in enumerate(entries):
        wrong = [
            name
            for name, kind in IMAGE_FIELDS.items()
            if not isinstance(entry, dict) or not isinstance(entry.get(name), kind)
        ]
        place = f'{path}, image {entry["id"] if "id" not in wrong else f"number {index} of the list"}'
        if wrong:
            kind = IMAGE_FIELDS[wrong[0]].__name__
            problems.append(Problem('broken image entry', place, f'field {wrong[0]!r} is missing or no {kind}'))
        elif entry['id'] in images:
            problems.append(Problem('doubled image id', place, 'this id appears twice'))
        else:
            images[entry['id']] = entry
    return images


def _compare_images(
    path: pathlib.Path, known: dict[int, Entry], found: dict[int, Entry], problems: list[Problem]
) -> None:
    """Two annotation files have to say the same of an image."""
    for image_id in known.keys() & found.keys():
        for field in ('height', 'width'):
            here, there = found[image_id][field], known[image_id][field]
            if here != there:
                text = f'{field} is {here} here and {there} in the file of the other annotations'
                problems.append(Problem('contradicting sizes', f'{path}, image {image_id}', text))


def _compare_categories(
    path: pathlib.Path, entries: list[Entry], categories: CategorySet, problems: list[Problem]
) -> None:
    known = {
        category.id: (category.name, train_id >= categories.num_stuff)
        for train_id, category in enumerate(categories.all)
    }
    for entry in entries:
        place = f'{path}, category {entry.get("id")}'
        if entry.get('id') not in known:
            problems.append(
                Problem('unknown category', place, f'{entry.get("name")!r} is not in {categories.name}', False)
            )
            continue
        name, is_thing = known[entry['id']]
        if entry.get('name', name) != name:
            text = f'is called {entry["name"]!r} here and {name!r} in {categories.name}'
            problems.append(Problem('renamed category', place, text, is_local=False))
        if bool(entry.get('isthing', is_thing)) != is_thing:
            kinds = ('thing', 'stuff') if is_thing else ('stuff', 'thing')
            text = f'{name!r} is a {kinds[0]} in {categories.name}, and {kinds[1]} here (isthing)'
            problems.append(Problem('thing and stuff mixed up', place, text, is_local=False))


def _instances(path: pathlib.Path, content: Entry, images: set[int], problems: list[Problem]) -> dict[int, list[Entry]]:
    """Instance annotations of each image of their file; without those that belong nowhere."""
    by_image: dict[int, list[Entry]] = {image_id: [] for image_id in images}
    ids = collections.Counter(entry.get('id') for entry in content['annotations'] if isinstance(entry, dict))
    for index, entry in enumerate(content['annotations']):
        if not isinstance(entry, dict) or not isinstance(entry.get('id'), int):
            place = f'{path}, annotation number {index} of the list'
            problems.append(Problem('broken annotation', place, "has no field 'id' with a number"))
            continue
        place = f'{path}, image {entry.get("image_id")}, annotation {entry["id"]}'
        if entry.get('image_id') not in images:
            problems.append(Problem('annotation of no image', place, 'the file lists no such image'))
            continue
        if ids[entry['id']] > 1:
            problems.append(Problem('doubled annotation id', place, f'id {entry["id"]} appears twice'))
            continue
        by_image[entry['image_id']].append(entry)
    return by_image


def _panoptic(path: pathlib.Path, content: Entry, images: set[int], problems: list[Problem]) -> dict[int, Entry]:
    by_image: dict[int, Entry] = {}
    for entry in content['annotations']:
        image_id = entry.get('image_id')
        place = f'{path}, image {image_id}'
        missing = [field for field in ('file_name', 'segments_info') if field not in entry]
        if image_id not in images:
            problems.append(Problem('annotation of no image', place, 'the file lists no such image'))
        elif missing:
            problems.append(Problem('broken annotation', place, f'has no field {missing[0]!r}'))
        elif image_id in by_image:
            problems.append(Problem('doubled annotation', place, 'two annotations of one image'))
        else:
            by_image[image_id] = entry
    return by_image

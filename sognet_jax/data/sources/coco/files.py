"""The annotation files of the COCO layout, and the checks that need no image.

    SOURCE/annotations/instances_SPLIT.json
    SOURCE/annotations/panoptic_SPLIT.json and SOURCE/annotations/panoptic_SPLIT/*.png
    SOURCE/annotations/image_info_SPLIT.json
    SOURCE/SPLIT/*.jpg

Any one of the three JSON files is enough. `image_info` lists images without annotations, as COCO has it for test-dev.
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import msgspec

from sognet_jax.categories import CategorySet
from sognet_jax.json_files import Notes, decode_entries, read_or_report
from sognet_jax.json_schemas import (
    AnnotationFile,
    CategoryEntry,
    ImageEntry,
    ImageListFile,
    InstanceEntry,
    PanopticEntry,
)
from sognet_jax.problems import InputError, Problem

KINDS = ('instances', 'panoptic', 'image_info')

LOST = {'instances': 'boxes, masks and overlaps', 'panoptic': 'stuff, and of which instance covers which'}
"""What training lacks where one of the two files is not there."""


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """The entries of one image, and where its files are.

    Instances have their numbers in the file; they and the panoptic annotation are None where it has none of the kind.
    The JSON files are for messages, the panoptic one names the folder of PNGs too. With `opens_files`, the image and
    the PNG are looked into as well.
    """

    image: ImageEntry
    image_file: pathlib.Path
    instances: list[tuple[int, InstanceEntry]] | None
    panoptic: PanopticEntry | None
    instances_file: pathlib.Path
    panoptic_file: pathlib.Path
    categories: CategorySet
    opens_files: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.height, self.image.width


def image_folder(source: pathlib.Path, name: str) -> pathlib.Path:
    """Where the images of a split are: COCO keeps those of `test-dev2017` in `test2017`."""
    folder = source / name
    return folder if folder.is_dir() else source / name.replace('-dev', '')


def annotation_files(source: pathlib.Path, name: str) -> dict[str, pathlib.Path]:
    """Where the annotations of a split may be: `instances`, `panoptic` and `image_info`."""
    return {kind: source / 'annotations' / f'{kind}_{name}.json' for kind in KINDS}


def read_split(
    source: pathlib.Path, name: str, categories: CategorySet, *, opens_files: bool
) -> tuple[list[ImageTask], list[Problem], Notes]:
    """Reads the annotation files of a split, and compares their categories with these.

    Returns:
        One task for each image of any of the files, in order of their ids; what is wrong with the files; and what was
        taken although it is unusual.

    Raises:
        InputError: the folder or all of the files are missing.
    """
    if not source.is_dir():
        text = f'data.source = {str(source)!r} is no folder; expected the official COCO layout there'
        raise InputError([Problem('missing source', str(source), text, False)])
    every_file, folder = annotation_files(source, name), image_folder(source, name)
    files = {kind: path for kind, path in every_file.items() if os.path.lexists(path)}
    if not files:
        expected = ', '.join(path.name for path in every_file.values())
        raise InputError([Problem('missing file', str(source / 'annotations'), f'has none of {expected}')])
    problems: list[Problem] = []
    notes = Notes()
    images: dict[int, ImageEntry] = {}
    instances: dict[int, list[tuple[int, InstanceEntry]]] = {}
    panoptic: dict[int, PanopticEntry] = {}
    for kind, path in files.items():
        form: type[AnnotationFile | ImageListFile] = ImageListFile if kind == 'image_info' else AnnotationFile
        content = read_or_report(path, form, problems)
        if content is None:
            continue
        listed = read_images(path, content.images, problems, notes)
        _compare_images(path, images, listed, problems)
        images |= listed
        _compare_categories(path, content.categories, categories, problems, notes)
        if kind == 'instances':
            instances = read_instances(path, content.annotations, set(listed), problems, notes)
        elif kind == 'panoptic':
            panoptic = _panoptic(path, content.annotations, listed, problems, notes)
        elif content.annotations:
            notes[f'{path.name}: its annotations are not used'] += len(content.annotations)
    for kind, lost in LOST.items() if len(files.keys() & LOST.keys()) == 1 else ():
        if kind not in files:
            notes[f'there is no {kind}_{name}.json: nothing is learned of {lost}'] += 1
    require_names_once(source / name, images, problems)
    require_names_once(every_file['panoptic'].with_suffix(''), panoptic, problems)
    tasks = [
        ImageTask(
            image, folder / image.file_name, instances.get(image_id), panoptic.get(image_id), every_file['instances'],
            every_file['panoptic'], categories, opens_files,
        )
        for image_id, image in sorted(images.items())
    ]  # fmt: skip
    return tasks, problems, notes


def read_images(
    path: pathlib.Path, raws: list[msgspec.Raw], problems: list[Problem], notes: Notes
) -> dict[int, ImageEntry]:
    """The usable image entries by id."""
    images: dict[int, ImageEntry] = {}
    for index, entry in decode_entries(path, 'images', raws, ImageEntry, problems, notes):
        if entry.id in images:
            problems.append(Problem('doubled image id', f'{path}, images[{index}]', f'id {entry.id} appears twice'))
        else:
            images[entry.id] = msgspec.structs.replace(entry, file_name=os.path.normpath(entry.file_name))
    return images


def _compare_images(
    path: pathlib.Path, known: dict[int, ImageEntry], found: dict[int, ImageEntry], problems: list[Problem]
) -> None:
    """Two annotation files have to say the same of an image."""
    for image_id in known.keys() & found.keys():
        for field in ('file_name', 'height', 'width'):
            here, there = getattr(found[image_id], field), getattr(known[image_id], field)
            if here != there:
                text = f'{field} is {here} here and {there} in the file of the other annotations'
                problems.append(Problem(f'contradicting {field}', f'{path}, image {image_id}', text))


def require_names_once(folder: pathlib.Path, images: Mapping[Any, Any], problems: list[Problem]) -> None:
    """A file is of one image: of entries by image ids."""
    first = dict[str, Any]()
    for image_id, entry in images.items():
        other = first.setdefault(entry.file_name, image_id)
        if other != image_id:
            text = f'is the file of image {image_id} and of image {other}'
            problems.append(Problem('one file, two images', str(folder / entry.file_name), text))


def _compare_categories(
    path: pathlib.Path, raws: list[msgspec.Raw], categories: CategorySet, problems: list[Problem], notes: Notes
) -> None:
    known = {category.id: train_id for train_id, category in enumerate(categories.all)}
    for index, entry in decode_entries(path, 'categories', raws, CategoryEntry, problems, notes):
        place = f'{path}, categories[{index}]'
        if entry.id not in known:
            text = f'category {entry.id} ({entry.name or "without a name"}) is not in {categories.name}'
            problems.append(Problem('unknown category', place, text, is_local=False))
            continue
        name, is_thing = categories.all[known[entry.id]].name, categories.is_thing(known[entry.id])
        if (entry.name or name) != name:
            text = f'category {entry.id} is called {entry.name!r} here and {name!r} in {categories.name}'
            problems.append(Problem('renamed category', place, text, is_local=False))
        if entry.isthing is not msgspec.UNSET and bool(entry.isthing) != is_thing:
            kinds = ('thing', 'stuff') if is_thing else ('stuff', 'thing')
            text = f'{name!r} is a {kinds[0]} in {categories.name}, and {kinds[1]} here (isthing)'
            problems.append(Problem('thing and stuff mixed up', place, text, is_local=False))


def read_instances(
    path: pathlib.Path, raws: list[msgspec.Raw], images: set[int], problems: list[Problem], notes: Notes
) -> dict[int, list[tuple[int, InstanceEntry]]]:
    """Instance annotations of each image of their file; without those that belong nowhere."""
    by_image: dict[int, list[tuple[int, InstanceEntry]]] = {image_id: [] for image_id in images}
    found = list(decode_entries(path, 'annotations', raws, InstanceEntry, problems, notes))
    ids = collections.Counter(entry.id for _, entry in found)
    for index, entry in found:
        place = f'{path}, annotations[{index}], image {entry.image_id}, annotation {entry.id}'
        if entry.image_id not in images:
            problems.append(
                Problem('annotation of no image', place, f'{path.name} lists no such image, or a broken one')
            )
        elif ids[entry.id] > 1:
            problems.append(Problem('doubled annotation id', place, f'id {entry.id} appears twice'))
        else:
            by_image[entry.image_id].append((index, entry))
    return by_image


def _panoptic(
    path: pathlib.Path, raws: list[msgspec.Raw], images: dict[int, ImageEntry], problems: list[Problem], notes: Notes
) -> dict[int, PanopticEntry]:
    by_image: dict[int, PanopticEntry] = {}
    stem_of = {image_id: os.path.splitext(entry.file_name)[0] for image_id, entry in images.items()}
    counts = collections.Counter(stem_of.values())
    image_of = {stem: image_id for image_id, stem in stem_of.items() if counts[stem] == 1}
    for index, entry in decode_entries(path, 'annotations', raws, PanopticEntry, problems, notes):
        place = f'{path}, annotations[{index}], image {entry.image_id}'
        name = os.path.splitext(entry.file_name)[0]
        named = entry.image_id if name.lstrip('0') == str(entry.image_id) else image_of.get(name, entry.image_id)
        if entry.image_id not in images:
            problems.append(
                Problem('annotation of no image', place, f'{path.name} lists no such image, or a broken one')
            )
        elif entry.image_id in by_image:
            problems.append(Problem('doubled annotation', place, 'two annotations of one image'))
        elif named != entry.image_id:
            text = f'its PNG is {entry.file_name}, which is named as the file of image {named}'
            problems.append(Problem('PNG of another image', place, text))
        else:
            by_image[entry.image_id] = entry
    return by_image

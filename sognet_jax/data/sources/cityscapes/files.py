"""The Cityscapes layout, and which of its files an image of a split has.

    SOURCE/leftImg8bit/SPLIT/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png
    SOURCE/gtFine/SPLIT/CITY/CITY_SEQUENCE_FRAME_gtFine_instanceIds.png
    SOURCE/gtFine/SPLIT/CITY/CITY_SEQUENCE_FRAME_gtFine_polygons.json

The other files in `gtFine` are not needed. What it has of the `test` split are empty labels; they are not looked at.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from sognet_jax.problems import InputError, Problem

IMAGE_ENDING = '_leftImg8bit.png'

WITHOUT_ANNOTATIONS = 'test'
"""The split whose annotations nobody has."""


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """The number of one image among those of the split, by name, and where its files are: its `instanceIds.png`, None
    in the test split, and its `polygons.json`, None there and where relations are not asked for.
    """

    image_id: int
    image_file: pathlib.Path
    instances_file: pathlib.Path | None
    polygons_file: pathlib.Path | None

    def files(self) -> list[pathlib.Path]:
        """All files that the image should have."""
        return [file for file in (self.image_file, self.instances_file, self.polygons_file) if file is not None]


def image_tasks(source: pathlib.Path, split: str, *, relations: bool) -> list[ImageTask]:
    """One task for each image of a split, by name; none where the split is missing."""
    images = (source / 'leftImg8bit' / split).glob(f'*/[!.]*{IMAGE_ENDING}')
    tasks = []
    for image_id, image in enumerate(sorted(images, key=lambda path: path.name)):
        instances = polygons = None
        if split != WITHOUT_ANNOTATIONS:
            annotation = annotation_folder(source, split) / image.parent.name
            name = image.name.removesuffix(IMAGE_ENDING)
            instances = annotation / f'{name}_gtFine_instanceIds.png'
            polygons = annotation / f'{name}_gtFine_polygons.json' if relations else None
        tasks.append(ImageTask(image_id, image, instances, polygons))
    return tasks


def require_split(source: pathlib.Path, split: str, tasks: Sequence[ImageTask]) -> None:
    """Refuses a split, of which these images were found, that has none, or no annotations, by an InputError."""
    images, annotations = source / 'leftImg8bit' / split, annotation_folder(source, split)
    if not images.is_dir():
        text = 'is no folder; expected the official Cityscapes layout in data.source, and train, val or test as split'
        raise InputError([Problem('missing folder', str(images), text)])
    if not tasks:
        raise InputError([Problem('no images', str(images), f'has no image CITY/*{IMAGE_ENDING}')])
    if split != WITHOUT_ANNOTATIONS and not annotations.is_dir():
        text = f'is no folder; expected the annotations of {images} there'
        raise InputError([Problem('missing folder', str(annotations), text)])


def annotation_folder(source: pathlib.Path, split: str) -> pathlib.Path:
    """Where the annotations of a split are, in one folder a city."""
    return source / 'gtFine' / split

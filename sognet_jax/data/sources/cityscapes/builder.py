"""How Cityscapes is prepared from local files."""

import pathlib
from collections.abc import Sequence

from sognet_jax.categories import CITYSCAPES
from sognet_jax.data.sources.cityscapes.annotations import examine
from sognet_jax.data.sources.cityscapes.files import (
    WITHOUT_ANNOTATIONS,
    ImageTask,
    annotation_folder,
    image_tasks,
    require_split,
)
from sognet_jax.data.sources.preparation import Preparation, copy_name
from sognet_jax.json_files import Notes
from sognet_jax.problems import Problem


def preparation(source: str | pathlib.Path, split: str, *, relations: bool = True) -> Preparation:
    """How a split of a folder in Cityscapes' layout (see `files`) is prepared.

    Args:
        split: `train`, `val`, or `test`, which has images alone.
        relations: find out which instances overlap, from the polygons of `gtFine`.
    """
    source = pathlib.Path(source)
    relations = relations and split != WITHOUT_ANNOTATIONS
    tasks = image_tasks(source, split, relations=relations)

    def read() -> tuple[Sequence[ImageTask], list[Problem], Notes]:
        require_split(source, split, tasks)
        notes = Notes()
        annotated = annotation_folder(source, split).glob('*/*_gtFine_instanceIds.png')
        if without := sorted({*annotated} - {task.instances_file for task in tasks}) if tasks[0].instances_file else []:
            notes[f'annotations that have no image, first {without[0]}'] = len(without)
        return tasks, [], notes

    overlaps = 'with overlap relations from the polygons of gtFine' if relations else 'without overlap relations'
    return Preparation(
        name=CITYSCAPES.name,
        copy=copy_name(
            split, [str(source.resolve()), f'relations {relations}'], [file for task in tasks for file in task.files()]
        ),
        split=split,
        categories=CITYSCAPES,
        description=f'{split} of {source}, {overlaps}',
        has_source=bool(tasks),
        read=read,
        examine=examine,
    )

"""Prepared data sets on disk: tfds builders that write array_record files, and reading them back."""

import contextlib
import copy
import io
import pathlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import categories_from_json, categories_to_json
from sognet_jax.data.records.schema import DECODERS, Record, decode_record, encode_record, features
from sognet_jax.files import Lock, first_line

Splits = Mapping[str, Iterable[Record]]


class RecordBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes records of the common schema, in their order; nothing is downloaded.

    Beside tfds' own files, `metadata.json` holds the categories and, for each split, the size of every image, so that
    orientations are known without reading a record; and how many images and annotations of the source are left out.
    """

    VERSION = tfds.core.Version('2.0.0')

    def __init__(
        self, name: str, splits: Splits, categories: CategorySet, description: str, left_out: int = 0, **options: Any
    ) -> None:
        self.name, self._splits, self._description = name, splits, description
        self._metadata = tfds.core.MetadataDict(categories=categories_to_json(categories), sizes={}, left_out=left_out)
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._description,
            features=features(),
            metadata=self._metadata,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterable[Any]]:
        return {name: self._generate_examples(name, records) for name, records in self._splits.items()}

    def _generate_examples(self, split: str, records: Iterable[Record]) -> Iterable[tuple[int, dict[str, Any]]]:
        sizes = self._metadata['sizes'][split] = []
        for index, record in enumerate(records):
            sizes.append(list(record.size))
            yield index, encode_record(record)


def write_records(folder: pathlib.Path, **arguments: Any) -> None:
    """Writes a data set into its `prepared_folder`; a failed run leaves no half of one behind. To be done `alone`.

    Raises:
        OSError: it cannot be written.
    """
    config, home = tfds.core.BuilderConfig(name=folder.parent.name), folder.parents[1]
    builder = RecordBuilder(home.name, data_dir=str(home.parent), config=config, **arguments)
    tfds.disable_progress_bar()
    options = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    with contextlib.redirect_stdout(io.StringIO()):  # tfds announces a download of unknown size
        try:
            builder.download_and_prepare(file_format='array_record', download_config=options)
        except RuntimeError as error:  # array_record's
            raise OSError(f'{folder} cannot be written: {first_line(error)}') from error


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[bool]:
    """Nobody else prepares this data set meanwhile, and what one that was killed has left of it is gone. Yields whether
    it is there already.
    """
    if folder.is_dir():
        yield True
        return
    name = folder.parent.name
    lock = Lock(
        folder.parent.with_name(f'{name}.lock'),
        f'another program prepares {name}, it is waited for',
        lambda holder: tqdm.write(holder, file=sys.stderr),
    )
    with contextlib.closing(lock):
        for unfinished in folder.parent.glob('incomplete.*'):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield folder.is_dir()  # by now: another program may have prepared it


def prepared_folder(name: str, data_dir: str | pathlib.Path, copy: str) -> pathlib.Path:
    """Where a data set is, in a folder of all: by its name and by what tells differently made copies apart."""
    return pathlib.Path(data_dir) / name / copy / str(RecordBuilder.VERSION)


class CorruptRecordError(ValueError):
    """A record cannot be read; the message names the prepared data, the split and the record's number."""


class Records(Protocol):
    """Records by their numbers, from 0 on: a list of them, or what is like one but for slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...

    def __iter__(self) -> Iterator[Record]:
        return map(self.__getitem__, range(len(self)))


class RecordSource(Records):
    """The records of one split, by index; reads from disk at every access and can be sent to other processes.

    Raises:
        ValueError: there is no such split, or something is damaged.
    """

    def __init__(self, folder: str | pathlib.Path, split: str) -> None:
        self.folder, self.split = pathlib.Path(folder), split
        try:
            builder = tfds.builder_from_directory(str(folder))
            splits, metadata = sorted(builder.info.splits), builder.info.metadata
            self.categories = categories_from_json(metadata['categories'], str(folder))
            # how many images and annotations of its source had a problem and are not there
            self.left_out = int(metadata.get('left_out', 0))
            if split in splits:
                # `[n, 2]` height and width of each image
                self.sizes = np.array(metadata['sizes'][split], np.int32).reshape(-1, 2)
                self._source = builder.as_data_source(split, decoders=DECODERS)
                if empty := [file.name for file in builder.info.splits[split].filepaths if not file.stat().length]:
                    raise ValueError(f'{empty[0]} is empty')
        except Exception as error:  # of every kind, as they come to tfds
            raise ValueError(f'{folder} is damaged: {first_line(error)}; without it, it is prepared again') from error
        if split not in splits:
            raise ValueError(f'{folder} has the splits {splits}, not {split!r}')

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f'{self.folder} has the records 0 .. {len(self) - 1}, not {index}')
        try:
            return decode_record(self._source[int(index)])
        except Exception as error:  # array_record, tfds and what decodes images raise whatever they like
            raise CorruptRecordError(f'{self.place(index)} cannot be read: {first_line(error)}') from error

    def first(self, number: int) -> Self:
        """The first so many of the records; all of them where 0 is asked for."""
        shorter = copy.copy(self)
        shorter.sizes = self.sizes[: number or None]
        return shorter

    def place(self, index: int) -> str:
        """Where a record lies, for messages."""
        return f'{self.folder}, split {self.split}, record {index}'


class MixedSource(Records):
    """Several sources with the same categories as one, in their order, with the `[n, 2]` sizes of all images."""

    def __init__(self, sources: Sequence[RecordSource]) -> None:
        self.sizes = np.concatenate([source.sizes for source in sources])
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        source, number = self._find(index)
        return source[number]

    def place(self, index: int) -> str:
        """Where a record lies, for messages."""
        source, number = self._find(index)
        return source.place(number)

    def _find(self, index: int) -> tuple[RecordSource, int]:
        if not 0 <= index < len(self):
            raise IndexError(f'there are the records 0 .. {len(self) - 1}, not {index}')
        which = int(np.searchsorted(self._ends, index, side='right'))
        return self._sources[which], int(index) - int(self._ends[which - 1] if which else 0)

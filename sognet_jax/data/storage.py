"""Prepared data sets on disk: tfds builders that write array_record files, and reading them back."""

from __future__ import annotations

import contextlib
import io
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from sognet_jax.data.schema import DECODERS, Record, decode_record, encode_record, features

Split = tuple[int, Callable[[int], Record]]
"""How many records a split has, and the function that makes record i."""


class RecordBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes records of the common schema; nothing is downloaded.

    Args:
        make_splits: gives the splits to write; only called when they have to be written.
        description: what the data are, for the stored `dataset_info.json`.
        **options: of `tfds.core.GeneratorBasedBuilder`.
    """

    VERSION = tfds.core.Version('1.0.0')
    name = 'records'

    def __init__(self, *, make_splits: Callable[[], Mapping[str, Split]], description: str, **options: Any) -> None:
        self._make_splits = make_splits
        self._description = description
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, description=self._description, features=features())

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterable[Any]]:
        return {name: self._generate_examples(name, *split) for name, split in self._make_splits().items()}

    def _generate_examples(
        self, split: str, count: int, make_record: Callable[[int], Record]
    ) -> Iterable[tuple[int, dict[str, Any]]]:
        for index in tqdm(range(count), desc=f'{self.name} {split}', unit='image'):
            yield index, encode_record(make_record(index))


def prepare(builder: type[RecordBuilder], data_dir: str | pathlib.Path, config: str, **arguments: Any) -> pathlib.Path:
    """Writes a data set unless it is there already; an interrupted or failed run leaves nothing behind.

    Args:
        builder: a builder class.
        data_dir: where data sets live.
        config: tells differently made copies apart; becomes a folder name.
        **arguments: the builder's own arguments.

    Returns:
        The folder of the prepared data.
    """
    instance = builder(data_dir=str(data_dir), config=tfds.core.BuilderConfig(name=config), **arguments)
    folder = pathlib.Path(instance.data_dir)
    if not folder.is_dir():
        tfds.disable_progress_bar()
        options = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
        with contextlib.redirect_stdout(io.StringIO()):  # tfds announces a download of unknown size
            instance.download_and_prepare(file_format='array_record', download_config=options)
    return folder


class RecordSource(Sequence[Record]):
    """The records of one split, by index; reads from disk at every access and can be sent to other processes.

    Args:
        folder: a prepared data set (see `prepare`).
        split: its split.

    Raises:
        ValueError: there is no such split.
    """

    def __init__(self, folder: str | pathlib.Path, split: str) -> None:
        builder = tfds.builder_from_directory(str(folder))
        if split not in builder.info.splits:
            raise ValueError(f'{folder} has the splits {sorted(builder.info.splits)}, not {split!r}')
        self._source = builder.as_data_source(split, decoders=DECODERS)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return decode_record(self._source[int(index)])

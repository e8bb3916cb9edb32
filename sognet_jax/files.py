"""Files that are either complete or not there."""

from __future__ import annotations

import os
import pathlib


def require_folder(path: pathlib.Path) -> None:
    """Refuses a file where results need a folder.

    Raises:
        NotADirectoryError: naming it.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f'{path}: the results need a folder, this is a file')


def require_new_folder(path: pathlib.Path) -> None:
    """Refuses what is there already, unless it is an empty folder.

    Raises:
        ValueError: naming it.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f'{path} is there already: the output has to be a new or an empty folder')


def write_whole(path: str | pathlib.Path, content: str | bytes) -> None:
    """Writes a file, and the folders that it needs; whoever looks sees the old file or the whole new one.

    Raises:
        OSError: it cannot be written.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{path.name}.unfinished')
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)

"""Files that are either complete or not there."""

from __future__ import annotations

import os
import pathlib


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

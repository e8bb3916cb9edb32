"""Files that are either complete or not there, and folders that one program at a time works in."""

import datetime
import errno
import json
import os
import pathlib
import socket
import zlib
from collections.abc import Callable, Sequence
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no locks of this kind: programs have to be kept apart by hand there
    fcntl = None  # type: ignore[assignment]


class InUseError(OSError):
    """Another program is at work where this one wants to be; the message names the file and the program."""


class Lock:
    """A file that one program at a time holds; it is free again when that program has ended, however it did.

    Args:
        path: of the file, which stays.
        what: what is said of the program that holds it.
        wait: is told that, and the file is waited for; without it, that it is not free is an error.

    Raises:
        InUseError: another program holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, path: pathlib.Path, what: str, wait: Callable[[str], None] | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open('a+')
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = f'{path.parent}: {what}: {self._file.read().strip()}'
            if wait is None:
                self._file.close()
                raise InUseError(holder) from error
            wait(holder)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, as some of clusters are
            return
        self._file.truncate(0)
        now = datetime.datetime.now().isoformat(' ', 'seconds')
        self._file.write(f'process {os.getpid()} on {socket.gethostname()}, since {now}\n')
        self._file.flush()

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()


def encode_entries(entries: Sequence[Any]) -> str:
    """A list as JSON, an entry on a line."""
    return '[\n' + ',\n'.join(map(json.dumps, entries)) + '\n]'


def require_folder(path: pathlib.Path) -> None:
    """Refuses a file where results need a folder, by a NotADirectoryError that names it."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f'{path}: the results need a folder, this is a file')


def require_new_folder(path: pathlib.Path) -> None:
    """Refuses what is there already, unless it is an empty folder, by a ValueError that names it."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f'{path} is there already: the output has to be a new or an empty folder')


def first_line(error: BaseException | str) -> str:
    """What is wrong, in one line: libraries tell the rest of their story below it."""
    full = os.strerror(errno.ENOSPC)
    if full in f'{error}':
        return full
    lines = f'{error}'.strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 300 else f'{lines[0][:300]} ...'


def read_bytes(path: pathlib.Path) -> bytes:
    """The content of a file.

    Raises:
        ValueError: saying why it cannot be read, without its name; what is no file (a pipe, a device) could go on for
            ever.
    """
    try:
        if not path.is_file() and path.exists():
            raise ValueError('is no file' if not path.is_dir() else 'is a folder')
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError('is missing') from error
    except OSError as error:
        raise ValueError(f'cannot be read: {error.strerror}') from error


def write_whole(path: str | pathlib.Path, content: str | bytes) -> None:
    """Writes a file, and the folders that it needs; whoever looks sees the old file or the whole new one.

    What a link points to is written; devices and pipes are written into.

    Raises:
        OSError: it cannot be written.
    """
    path, content = pathlib.Path(path), content.encode() if isinstance(content, str) else content
    path = pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)
        return
    unfinished = path.with_name(f'.{zlib.crc32(os.fsencode(path.name)):08x}.unfinished')  # its own name may be too long
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)

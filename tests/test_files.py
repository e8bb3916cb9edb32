"""Files that are whole or not there, and one program at a time."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from sognet_jax.files import InUseError, Lock, first_line, read_bytes, write_whole

HOLD = """
import pathlib, sys, time
from sognet_jax.files import Lock
lock = Lock(pathlib.Path(sys.argv[1]), 'another program is here')
print('held', flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, '-c', HOLD, tmp_path / 'lock'], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()
    process.communicate()


def test_a_lock_names_who_holds_it_and_is_free_when_that_process_is_gone(tmp_path, holder):
    with pytest.raises(InUseError, match=f'{tmp_path}: another program is here: process {holder.pid} on .* since 20'):
        Lock(tmp_path / 'lock', 'another program is here')
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    Lock(tmp_path / 'lock', 'another program is here').close()


def test_a_lock_can_be_waited_for(tmp_path, holder):
    said = []

    def wait(line):
        said.append(line)
        holder.kill()

    began = time.monotonic()
    Lock(tmp_path / 'lock', 'it is waited for', wait).close()
    assert len(said) == 1 and f'process {holder.pid}' in said[0] and time.monotonic() - began < 10


def test_where_the_file_system_has_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr('fcntl.flock', unknown)
    Lock(tmp_path / 'lock', 'another program is here').close()


def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    write_whole(tmp_path / 'a' / 'file', 'old')

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/a/file'"):
        write_whole(tmp_path / 'a' / 'file', 'new')
    assert (tmp_path / 'a' / 'file').read_text() == 'old' and len(list((tmp_path / 'a').iterdir())) == 1


def test_long_stories_become_one_line():
    assert first_line(ValueError('first\nsecond')) == 'first'
    assert first_line(ValueError()) == 'ValueError'
    assert first_line('x' * 1000) == 'x' * 300 + ' ...'
    assert first_line(f'{"x" * 1000}: No space left on device [28]') == 'No space left on device'


def test_what_is_no_file_is_not_read(tmp_path):
    """Some of it has no end."""
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'link').symlink_to(tmp_path / 'pipe')
    for path in (pathlib.Path('/dev/zero'), tmp_path / 'pipe', tmp_path / 'link'):
        with pytest.raises(ValueError, match='is no file'):
            read_bytes(path)
    for path, text in ((tmp_path, 'is a folder'), (tmp_path / 'gone', 'is missing')):
        with pytest.raises(ValueError, match=text):
            read_bytes(path)


def test_links_are_written_through_and_pipes_into(tmp_path):
    target, link, pipe = tmp_path / 'deep' / 'target', tmp_path / 'link', tmp_path / 'pipe'
    link.symlink_to(target)
    write_whole(link, 'first')
    write_whole(link, 'second')
    assert link.is_symlink() and target.read_text() == 'second'
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), 'rb') as reader:
        write_whole(pipe, 'through')
        assert reader.read() == b'through' and pipe.is_fifo()

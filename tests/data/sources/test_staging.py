"""Examining a split: in several processes, and behind an interruption."""

import dataclasses
import os
import pathlib
import signal

import numpy as np
import pytest

from sognet_jax.data.records.schema import Record
from sognet_jax.data.sources.staging import CHUNK, TOO_SMALL, Examined, examine_all
from sognet_jax.json_files import Notes
from sognet_jax.problems import InputError, Problem, report
from sognet_jax.processes import in_order

COUNT = 3 * CHUNK + 5


@dataclasses.dataclass(frozen=True)
class Task:
    number: int
    log: pathlib.Path
    fails_at: int = -1
    broken_at: int = -1


def examine(task):
    """Leaves a note that it was here."""
    if task.number == task.fails_at:
        raise KeyboardInterrupt
    (task.log / f'{task.number}').touch()
    problems = (Problem('broken', f'image {task.number}', 'is broken'),) if task.number == task.broken_at else ()
    notes = Notes({TOO_SMALL: task.number % 2})
    record = Record(b'', task.number, f'{task.number}.png', (task.number + 1, 7))
    return Examined(None if problems else record, task.log / f'{task.number}', problems, notes)


def tasks(log, **changes):
    log.mkdir(exist_ok=True)
    return [Task(number, log, **changes) for number in range(COUNT)]


@pytest.mark.parametrize('workers', [0, 2])
def test_all_images_come_in_order(tmp_path, workers):
    found = examine_all(tasks(tmp_path / 'log'), examine, title='test', workers=workers)
    assert [examined.record.image_id for examined in found.images()] == list(range(COUNT))
    assert found.notes[TOO_SMALL] == COUNT // 2 and not found.problems
    assert [record.image_bytes for record in found.records('test')] == [b''] * COUNT


def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_said_in_one_line():
    with pytest.raises(OSError, match='one of 2 worker processes was killed'):
        list(in_order(killed, range(3), 2))


def test_an_interrupted_examination_goes_on_where_it_was(tmp_path):
    staging = tmp_path / 'staging'
    with pytest.raises(KeyboardInterrupt):
        examine_all(tasks(tmp_path / 'log', fails_at=2 * CHUNK + 3), examine, title='test', workers=0, staging=staging)
    assert len(list(staging.iterdir())) == 2
    again = examine_all(tasks(tmp_path / 'again'), examine, title='test', workers=0, staging=staging)
    assert sorted(int(path.name) for path in (tmp_path / 'again').iterdir()) == list(range(2 * CHUNK, COUNT))
    assert [examined.record.image_id for examined in again.images()] == list(range(COUNT))
    assert again.notes[TOO_SMALL] == COUNT // 2


def test_a_file_that_was_being_written_does_not_count(tmp_path):
    staging = tmp_path / 'staging'
    staging.mkdir()
    (staging / '00000000.pickle.unfinished').write_bytes(b'half of')
    found = examine_all(tasks(tmp_path / 'log'), examine, title='test', workers=0, staging=staging)
    assert found.count == COUNT


def test_what_was_broken_is_examined_again(tmp_path):
    arguments = {'title': 'test', 'workers': 0, 'staging': tmp_path / 'staging'}
    found = examine_all(tasks(tmp_path / 'log', broken_at=CHUNK + 1), examine, **arguments)
    assert [str(problem) for problem in found.problems] == [f'image {CHUNK + 1}: is broken']
    mended = examine_all(tasks(tmp_path / 'again'), examine, **arguments)
    assert not mended.problems and len(list((tmp_path / 'again').iterdir())) == CHUNK


def test_a_report_counts_kinds_and_lists_some():
    problems = [Problem('broken box', f'image {index}', 'is broken') for index in range(9)]
    problems += [Problem('missing image', 'image 9', 'is missing')]
    assert report(problems, limit=2).splitlines() == [
        '10 problems:',
        'broken box (9)',
        '  image 0: is broken',
        '  image 1: is broken',
        '  ... and 7 more',
        'missing image (1)',
        '  image 9: is missing',
    ]
    assert str(InputError(problems[-1:], 'Mend it.')) == 'image 9: is missing\nMend it.'
    assert np.sum([str(problem) in report(problems) for problem in problems]) == 10

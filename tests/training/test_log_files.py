"""TensorBoard's scalars and metrics.jsonl: read again by others, on a disk that is full, in a run that is resumed."""

import json
import math
import os
import struct

import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from sognet_jax.training.log_files import LogFiles


def events(folder):
    """(step, {name: value}) of the scalars in a folder's only file, record by record as TensorBoard's format is."""
    (path,) = (folder / 'tensorboard').iterdir()
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack('<Q', content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + length :]
    return found


def lines(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_what_is_written_is_what_others_read(tmp_path):
    files = LogFiles(tmp_path, 0, print)
    files.scalars(3, {'train/total': 0.5, 'train/order_accuracy': math.nan})
    files.metrics(3, {'PQ': 12.34567, 'mIoU': math.nan})
    files.close()
    assert events(tmp_path) == [(3, 'train/total', 0.5)]
    assert lines(tmp_path) == [{'step': 3, 'PQ': 12.3457, 'mIoU': None}]


def test_a_resumed_run_forgets_what_it_does_again(tmp_path):
    first = LogFiles(tmp_path, 0, print)
    for step in (10, 20, 30):
        first.metrics(step, {'PQ': float(step)})
    (tmp_path / 'metrics.jsonl').open('a').write('{"step": 40, "P')
    resumed = LogFiles(tmp_path, 20, print)
    resumed.metrics(30, {'PQ': 1.0})
    assert [(line['step'], line['PQ']) for line in lines(tmp_path)] == [(10, 10.0), (20, 20.0), (30, 1.0)]


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='Linux has a device that is always full')
def test_a_full_disk_is_said_once_and_costs_nothing_but_its_lines(tmp_path, monkeypatch):
    said = []
    files = LogFiles(tmp_path, 0, said.append)
    files.scalars(1, {'a': 1.0})

    def full(*_):
        with open('/dev/full', 'w') as device:
            device.write('x')

    with monkeypatch.context() as patched:
        patched.setattr(EventsWriter, 'flush', full)
        patched.setattr('sognet_jax.training.log_files.write_whole', full)
        for step in (2, 3):
            files.scalars(step, {'a': float(step)})
            files.metrics(step, {'PQ': float(step)})
    assert len(said) == 2 and all('No space left on device' in line and 'training goes on' in line for line in said)
    assert 'tensorboard' in said[0] and 'metrics.jsonl' in said[1]
    files.scalars(4, {'a': 4.0})
    files.metrics(4, {'PQ': 4.0})
    files.close()
    assert [line['step'] for line in lines(tmp_path)] == [2, 3, 4]
    assert [step for step, _, _ in events(tmp_path)] == [1, 2, 3, 4]
    assert [line.split()[-4:] for line in said[2:]] == [['can', 'be', 'written', 'again']] * 2

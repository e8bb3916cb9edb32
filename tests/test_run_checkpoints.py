"""The checkpoints of a run: what stays, what is damaged, and a disk that is full."""

import json
import pathlib
import shutil
import zlib

import numpy as np
import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import (
    CheckpointError,
    Checkpoints,
    DamagedError,
    describe,
    newest_whole,
    restore_variables,
    stored_config,
)
from tests.support.examples import tiny_config

SMALL = np.arange(300_000, dtype=np.float32)


def state(value):
    head = {'kernel': SMALL + value, 'bias': np.full(3, value, np.float32)}
    return {'params': {'head': head}, 'step': np.int32(value)}


def save(folder, steps, metrics=None, keep=2):
    checkpoints = Checkpoints(folder, keep, 'PQ')
    for step in steps:
        checkpoints.save(step, state(step), {}, (metrics or {}).get(step))
        checkpoints.wait()
        assert not checkpoints.failure()
    checkpoints.close()
    return sorted(int(path.name) for path in (folder / 'checkpoints').iterdir())


def test_the_newest_and_the_best_stay_in_however_many_parts_a_run_was_trained(tmp_path):
    metrics = {2: {'PQ': 9.0}, 3: {'PQ': 5.0}, 5: {'PQ': float('nan')}}
    assert save(tmp_path, [1, 2, 3], metrics) == [2, 3]
    assert save(tmp_path, [4, 5], metrics) == [2, 4, 5]
    assert save(tmp_path, [6], {6: {'PQ': 9.5}}) == [5, 6]


def files(folder, name):
    return sorted(path for path in folder.rglob(name) if path.is_file())


def data_file(folder):
    return max(files(folder / 'state', '*'), key=lambda path: path.stat().st_size)


def flip(path, count=8):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + count] = bytes(255 - byte for byte in content[middle : middle + count])
    path.write_bytes(content)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {
    'half a file': lambda folder: data_file(folder).write_bytes(data_file(folder).read_bytes()[:1000]),
    'a missing file': lambda folder: data_file(folder).unlink(),
    'a missing manifest': lambda folder: [path.unlink() for path in files(folder, 'manifest.ocdbt')],
    'a broken manifest': lambda folder: [flip(path) for path in files(folder, 'manifest.ocdbt')],
    'flipped bytes': lambda folder: flip(data_file(folder)),
    'an empty folder': empty,
    'no arrays': lambda folder: shutil.rmtree(folder / 'state'),
    'broken metadata': lambda folder: [path.write_text('{') for path in files(folder, '_METADATA')],
    'sums that are none': lambda folder: (folder / 'checksums' / 'metadata').write_text('{"params'),
    'no sums where there were some': lambda folder: (folder / 'checksums' / 'metadata').unlink(),
}


@pytest.mark.parametrize('kind', DAMAGES)
def test_a_damaged_checkpoint_is_named_and_set_aside_and_the_one_before_it_is_used(tmp_path, kind):
    save(tmp_path, [1, 2])
    DAMAGES[kind](tmp_path / 'checkpoints' / '2')
    said = []
    checkpoints = Checkpoints(tmp_path, 2, 'PQ')
    restored = checkpoints.restore(state(0), said.append)
    checkpoints.save(3, state(3), {})
    checkpoints.close()
    assert int(restored['step']) == 1
    np.testing.assert_array_equal(restored['params']['head']['kernel'], SMALL + 1)
    assert len(said) == 1 and len(said[0].splitlines()) == 1 and len(said[0]) < 700
    assert f'WARNING: {tmp_path}/checkpoints/2 is damaged' in said[0] and said[0].endswith(f'{tmp_path}/damaged/2')
    assert (tmp_path / 'damaged' / '2').is_dir()
    assert sorted(path.name for path in (tmp_path / 'checkpoints').iterdir()) == ['1', '3']


@pytest.mark.parametrize('kind', DAMAGES)
def test_inference_names_a_damaged_checkpoint_and_takes_the_one_before_it_if_asked(tmp_path, kind):
    checkpoints = Checkpoints(tmp_path, 2, 'PQ')
    for step in (1, 2):
        checkpoints.save(step, state(step), describe(tiny_config(), SHAPES))
    checkpoints.close()
    DAMAGES[kind](tmp_path / 'checkpoints' / '2')
    wanted = {'params': state(0)['params']}
    with pytest.raises(DamagedError, match=f'{tmp_path}/checkpoints/2 is damaged: .*--older_if_damaged') as caught:
        restore_variables(tmp_path, wanted)
    assert len(str(caught.value).splitlines()) == 1
    said = []
    whole = newest_whole(tmp_path, said.append)
    assert whole == tmp_path / 'checkpoints' / '1' and len(said) == 1
    np.testing.assert_array_equal(restore_variables(whole, wanted)['params']['head']['bias'], np.ones(3))
    assert stored_config(whole).batch_size == 8


def test_a_run_without_a_whole_checkpoint_does_not_start_anew(tmp_path):
    save(tmp_path, [1, 2])
    for step in ('1', '2'):
        flip(data_file(tmp_path / 'checkpoints' / step))
    said = []
    checkpoints = Checkpoints(tmp_path, 2, 'PQ')
    with pytest.raises(CheckpointError, match='no checkpoint in .* is whole'):
        checkpoints.restore(state(0), said.append)
    checkpoints.close()
    assert len(said) == 2 and len(list((tmp_path / 'damaged').iterdir())) == 2


def test_a_checkpoint_of_something_else_is_not_taken_for_damaged(tmp_path):
    save(tmp_path, [1])
    other = {'params': {'head': {'kernel': np.zeros(5, np.float32)}}, 'step': np.int32(0)}
    checkpoints = Checkpoints(tmp_path, 2, 'PQ')
    with pytest.raises(CheckpointError, match=r'checkpoints/1 does not fit this config: params/head/bias: .* missing'):
        checkpoints.restore(other, print)
    checkpoints.close()
    assert (tmp_path / 'checkpoints' / '1').is_dir()


def test_a_save_that_fails_is_known_and_the_next_one_succeeds(tmp_path):
    checkpoints = Checkpoints(tmp_path, 2, 'PQ')
    checkpoints.save(1, state(1), {})
    checkpoints.wait()
    aside = tmp_path / 'aside'
    checkpoints.folder.rename(aside)
    checkpoints.folder.write_text('')  # whoever is root may write into any folder, but not into a file
    checkpoints.save(2, state(2), {})
    checkpoints.wait()
    assert len(checkpoints.failure().splitlines()) == 1
    checkpoints.folder.unlink()
    aside.rename(checkpoints.folder)
    checkpoints.save(3, state(3), {})
    checkpoints.wait()
    assert not checkpoints.failure()
    checkpoints.close()
    assert int(restore_step(tmp_path)) == 3


def restore_step(folder):
    checkpoints = Checkpoints(folder, 2, 'PQ')
    restored = checkpoints.restore(state(0), print)
    checkpoints.close()
    return restored['step']


def test_a_reader_beside_a_running_training_always_gets_a_whole_checkpoint(tmp_path):
    """Although checkpoints are replaced much faster than any training does."""
    checkpoints, read = Checkpoints(tmp_path, 2, 'PQ'), []
    wanted = {'params': state(0)['params']}
    for step in range(1, 61):
        checkpoints.save(step, state(step), {})
        if step > 1:
            head = restore_variables(tmp_path, wanted)['params']['head']
            np.testing.assert_array_equal(head['kernel'], SMALL + head['bias'][0])
            read.append(int(head['bias'][0]))
    checkpoints.close()
    assert read == sorted(read) and len(set(read)) > 10


def test_what_is_saved_is_what_was_there_when_it_was_saved(tmp_path):
    """Not what the arrays are made into while the thread writes."""
    arrays = {'params': {'a': SMALL.copy()}}
    checkpoints = Checkpoints(tmp_path, 2, 'PQ')
    checkpoints.save(1, arrays, {})
    arrays['params']['a'][:] = -1
    restored = (checkpoints.wait(), checkpoints.restore(arrays, print))[1]
    checkpoints.close()
    np.testing.assert_array_equal(restored['params']['a'], SMALL)


def test_a_disk_that_is_too_small_is_said_before_the_run(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, 2, 'PQ')
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=3_000_000))
    with pytest.raises(OSError, match=r'checkpoints: 0.003 GB are free, .* need 0.0048 GB'):
        checkpoints.require_space(state(0), 2)
    monkeypatch.undo()
    checkpoints.require_space(state(0), 2)
    checkpoints.close()


def test_the_sums_are_those_of_zlib(tmp_path):
    save(tmp_path, [4])
    sums = json.loads(pathlib.Path(tmp_path / 'checkpoints' / '4' / 'checksums' / 'metadata').read_text())
    assert sums['params/head/kernel'] == zlib.crc32((SMALL + 4).tobytes())
    assert set(sums) == {'params/head/kernel', 'params/head/bias', 'step'}

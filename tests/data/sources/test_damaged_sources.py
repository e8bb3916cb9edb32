"""Damaged sources, as hypothesis draws them: each is judged in time, and is either named or trains."""

import contextlib
import functools
import io
import multiprocessing
import pathlib
import resource
import shutil
import time
import traceback

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sognet_jax.category_files import category_set
from sognet_jax.data.configured import example_settings
from sognet_jax.data.examples.transforms import make_example
from sognet_jax.data.sources.coco.builder import preparation
from sognet_jax.data.sources.preparation import check
from sognet_jax.programs import prepare
from tests.support.coco_source import SPLIT, write_source
from tests.support.damage import damages
from tests.support.examples import tiny_config
from tests.support.training import first_step

SECONDS, BYTES = 5, 2**30


def judge(connection):
    """A process that judges one folder after the other: the exit status, what is printed, and the memory it took."""
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while (root := connection.recv()) is not None:
        printed = io.StringIO()
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                arguments = ['coco_format', '--source', str(root), '--categories', str(root / 'categories.json')]
                status = prepare.main([*arguments, '--check', '--workers', '1'])
            except SystemExit as error:
                status = error.code
            except BaseException:
                traceback.print_exc(file=printed)
                status = -1
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        taken = time.process_time() - start, grown
        connection.send((status, printed.getvalue(), taken, examples_of(root) if status == 0 else []))


def config_of(root):
    config = tiny_config()
    config.batch_size = 2
    config.categories = str(root / 'categories.json')
    return config


def examples_of(root):
    """What training gets of a source that was found to be sound."""
    config = config_of(root)
    found = check(preparation(root, SPLIT, category_set(config.categories)), workers=0)
    return [make_example(record, example_settings(config)) for record in found.records('damaged')]


class Source:
    """A sound source of two images, and a process that judges what becomes of it; imports take it seconds."""

    def __init__(self, folder):
        self.sound, self.damaged = write_source(folder / 'sound'), folder / 'damaged'
        paths = sorted(path for path in self.sound.rglob('*') if path.is_file())
        self.files = {str(path.relative_to(self.sound)): path.read_bytes() for path in paths}
        context = multiprocessing.get_context('spawn')
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=judge, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def __repr__(self):
        return 'Source()'

    def judged(self, root):
        """What `judge` says: it has to say something."""
        self.connection.send(root)
        assert self.connection.poll(60), 'the judgement hangs'
        return self.connection.recv()

    def examples(self, data):
        """Draws a damage; the examples of training, where the source is sound all the same."""
        shutil.rmtree(self.damaged, ignore_errors=True)
        for name, content in (self.files | data.draw(damages(self.files))).items():
            path = self.damaged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content)
        status, printed, (seconds, grown), examples = self.judged(self.damaged)
        assert status in (0, 1) and 'Traceback' not in printed, printed
        assert seconds < SECONDS and grown < BYTES, (seconds, grown, printed)
        assert status == 0 or str(self.damaged) in printed, f'{printed}: names no file'
        for example in examples:
            for name, value in example.items():
                assert np.all(np.isfinite(value)), name
            boxes = example['boxes'][example['valid']]
            assert np.all(boxes[:, 2:] > boxes[:, :2]), boxes
        return examples


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    of = Source(tmp_path_factory.mktemp('sources'))
    status, printed, _, examples = of.judged(of.sound)
    assert status == 0 and len(examples) == 2, printed
    yield of
    of.process.kill()


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_source_is_named_or_is_sound(source, data):
    source.examples(data)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_sound_trains(source, data):
    examples = source.examples(data)
    if examples:
        batch = {name: np.stack([example[name] for example in (examples * 2)[:2]]) for name in examples[0]}
        batch['example_index'] = np.arange(2, dtype=np.int32)
        categories = category_set(str(source.damaged / 'categories.json'))
        _, metrics = step_of(categories.num_stuff, categories.num_things, source)(batch)
        assert all(np.all(np.isfinite(value)) for value in metrics.values()), metrics


@functools.cache
def step_of(num_stuff, num_things, source):
    """A step for so many classes, which the damaged source has."""
    return first_step(config_of(source.damaged))[1]

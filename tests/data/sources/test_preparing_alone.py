"""Two programs that prepare the same data, and what one that was killed has left."""

import subprocess
import sys

from sognet_jax.data.records.storage import RecordSource
from sognet_jax.data.sources.shapes.builder import ShapesSettings, prepare
from tests.support.paths import ROOT

PREPARE = """
import sys
from sognet_jax.data.sources.shapes.builder import ShapesSettings, prepare
print(prepare(sys.argv[1], ShapesSettings(num_train=300, num_validation=1)))
"""


def test_two_programs_prepare_one_after_the_other(tmp_path):
    command = [sys.executable, '-c', PREPARE, tmp_path]
    programs = [
        subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in 'ab'
    ]
    outputs = [program.communicate(timeout=120) for program in programs]
    assert [program.returncode for program in programs] == [0, 0], outputs
    folders = {printed.strip() for printed, _ in outputs}
    assert len(folders) == 1 and len(RecordSource(folders.pop(), 'train')) == 300
    assert sum('draw train' in shown for _, shown in outputs) == 1
    assert sum('another program prepares' in shown for _, shown in outputs) == 1


def test_what_a_killed_one_has_left_is_removed(tmp_path):
    settings = ShapesSettings(num_train=2, num_validation=1)
    folder = prepare(tmp_path, settings)
    left = folder.with_name(f'incomplete.AB12_{folder.name}')
    folder.rename(left)
    assert prepare(tmp_path, settings) == folder
    assert not left.exists() and len(RecordSource(folder, 'train')) == 2

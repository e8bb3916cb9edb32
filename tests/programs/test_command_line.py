"""The programs as a user starts them: what they need, and one line where something is wrong."""

import os
import subprocess
import sys

import pytest

from sognet_jax.categories import SHAPES
from sognet_jax.checkpoints import describe, save_variables
from tests.support.examples import tiny_config
from tests.support.paths import ROOT


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """One that says what it is of, and has no arrays."""
    folder = tmp_path_factory.mktemp('checkpoint') / 'saved'
    save_variables(folder, {'params': {}}, describe(tiny_config(), SHAPES))
    return folder


def start(program, *arguments, cwd):
    command = [sys.executable, str(ROOT / program), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--checkpoint={checkpoint}', 'nothing.png'], 'nothing.png: no such image or folder\n'),
        (['--checkpoint', '{checkpoint}', '--config.inference.outside=far', 'x.png'], "must be 'zero' or 'absent'"),
        (['--checkpoint=nowhere', 'x.png'], 'no checkpoint in'),
        (['--checkpoint={checkpoint}', '--config.model.rpn.features=9', 'x.png'], 'rpn.features = 9 contradicts'),
        (['--checkpoint={checkpoint}', '--config.data.short_sid=9', 'x.png'], "no such config field: 'short_sid' Did"),
        (['--checkpoint={checkpoint}', '--config.data.short_side=0', 'x.png'], 'data.short_side must be at least 1'),
        (['--checkpoint=none', '--older_if_damaged=true', 'x.png'], 'no checkpoint in'),
        (['--checkpoint=none', '--older_if_damaged=true', '--coordinator_address=x', 'x.png'], 'is for one host'),
    ],
)
def test_what_is_wrong_ends_a_program_with_one_line(checkpoint, tmp_path, arguments, message):
    """From another working directory, without `--config`."""
    (tmp_path / 'x.png').write_bytes((ROOT / 'docs' / 'relation_seeds.png').read_bytes())
    arguments = [argument.format(checkpoint=checkpoint) for argument in arguments]
    result = start('predict.py', '--output=out', *arguments, cwd=tmp_path)
    assert result.returncode == 1 and message in result.stderr and result.stderr.count('\n') == 1, result.stderr
    assert not (tmp_path / 'out').exists()


def test_debug_shows_where(checkpoint, tmp_path):
    result = start('predict.py', f'--checkpoint={checkpoint}', '--output=out', '--debug', 'no.png', cwd=tmp_path)
    assert result.returncode == 1 and 'Traceback' in result.stderr and 'find_images' in result.stderr


def test_a_config_of_the_package_is_known_by_its_name(tmp_path):
    arguments = ['--config=coco_r50:published', '--config.model.rpn.features=9', '--source=no.npz', '--output=out']
    command = [sys.executable, '-m', 'sognet_jax.programs.convert', *arguments]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': ROOT}
    )
    assert result.returncode == 1 and result.stderr.startswith('no file no.npz'), result.stderr


@pytest.mark.parametrize('program', ['train.py', 'eval.py', 'predict.py', 'export.py'])
def test_help_shows_an_example_and_the_flags(program, tmp_path):
    text = start(program, '--help', cwd=tmp_path).stdout
    assert f'python {program} --' in text and '--config' in text and '[no]debug' in text
    assert '--workdir' in text if program == 'train.py' else '--checkpoint' in text

"""The installable package asks for what `requirements.txt` and its siblings ask for."""

import tomllib

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def listed(name):
    lines = (ROOT / f'requirements{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith(('#', '-r'))]


def test_dependencies_are_the_requirements():
    assert PROJECT['dependencies'] == listed('')


@pytest.mark.parametrize(('extra', 'name'), [('dev', '-dev'), ('convert', '-torch'), ('peers', '-peers')])
def test_extras_are_the_other_requirements(extra, name):
    assert PROJECT['optional-dependencies'][extra] == listed(name)

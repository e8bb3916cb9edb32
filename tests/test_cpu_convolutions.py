"""Convolutions and products leave YNNPACK; what the user has set stays; no jaxlib gets a flag it may not know."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from sognet_jax.cpu_convolutions import FLAG, TO_EIGEN, choose_eigen
from tests.support.paths import ROOT

CONVOLUTION_AND_PRODUCT = """
import jax, jax.numpy as jnp
from sognet_jax.cpu_convolutions import choose_eigen
choose_eigen()
def both(image, kernel):
    names = ('NHWC', 'HWIO', 'NHWC')
    product = image.reshape(-1, 32) @ kernel[0, 0]
    return jax.lax.conv_general_dilated(image, kernel, (1, 1), 'SAME', dimension_numbers=names), product
print(jax.jit(both).lower(jnp.ones((2, 64, 64, 32)), jnp.ones((3, 3, 32, 32))).compile().as_text())
"""


def flags_after(monkeypatch, flags, version='0.10.2'):
    """`XLA_FLAGS` as `choose_eigen` leaves it where it was `flags`; None is not set."""
    environment = {} if flags is None else {'XLA_FLAGS': flags}
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, 'version', lambda name: version)
        patch.setattr(os, 'environ', environment)
        choose_eigen()
    return environment.get('XLA_FLAGS')


@pytest.mark.parametrize('flags', [None, '', ' '])
def test_flag_is_set(monkeypatch, flags):
    assert flags_after(monkeypatch, flags) == TO_EIGEN


def test_flag_is_appended_to_others_once(monkeypatch):
    others = '--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2'
    once = flags_after(monkeypatch, others)
    assert once == f'{others} {TO_EIGEN}'
    assert flags_after(monkeypatch, once) == once


@pytest.mark.parametrize('flags', [f'{FLAG}=', f'--xla_dump_to=a {FLAG}=+LIBRARY_FUSION_TYPE_REDUCE', 'flags.txt'])
def test_what_the_user_has_set_stays(monkeypatch, flags):
    assert flags_after(monkeypatch, flags) == flags


@pytest.mark.parametrize('version', ['0.10.0', '0.10.2', '0.11.2', '0.12.0.1', '0.12.1.dev20261126'])
def test_versions_with_the_flag(monkeypatch, version):
    assert flags_after(monkeypatch, None, version) == TO_EIGEN


@pytest.mark.parametrize('version', ['0.4.38', '0.9.2', '0.13.0', '1.0', 'unknown'])
def test_other_versions_are_left_alone(monkeypatch, version):
    assert flags_after(monkeypatch, None, version) is None


def test_without_jaxlib_nothing_is_set(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setenv('XLA_FLAGS', '')
    monkeypatch.setattr(importlib.metadata, 'version', version)
    choose_eigen()
    assert os.environ['XLA_FLAGS'] == ''


def test_compiled_convolution_and_product_are_not_ynnpacks():
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}
    command = [sys.executable, '-c', CONVOLUTION_AND_PRODUCT]
    program = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    entry = program[program.index('ENTRY') :]
    # What YNNPACK takes is called from the entry computation as a fusion.
    assert ' convolution(' in entry and ' dot(' in entry

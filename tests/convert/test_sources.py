"""Reading checkpoint files: what is in them, and one clear error for each that cannot be read."""

import json
import struct
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from sognet_jax.convert.sources import ConversionError, read_arrays
from tests.support.paths import ROOT

ARRAYS = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'a.bias': np.float32([1, 2])}


def save(path, arrays):
    if path.suffix == '.npz':
        np.savez(path, **arrays)
    else:
        safetensors.numpy.save_file(arrays, path)
    return path


def same(actual, expected=ARRAYS):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_arrays_are_read_by_name(name, tmp_path):
    same(read_arrays(save(tmp_path / name, ARRAYS)))
    prefixed = save(tmp_path / f'module_{name}', {f'module.{key}': array for key, array in ARRAYS.items()})
    same(read_arrays(prefixed))


def test_a_prefix_that_not_every_entry_has_stays(tmp_path):
    arrays = {'module.a': ARRAYS['a.bias'], 'a': ARRAYS['a.bias']}
    same(read_arrays(save(tmp_path / 'x.npz', arrays)), arrays)


def test_bfloat16_is_read(tmp_path):
    arrays = {'a': np.array([0.5, -3], ml_dtypes.bfloat16)}
    same(read_arrays(save(tmp_path / 'x.safetensors', arrays)), arrays)


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
@pytest.mark.parametrize('content', [b'', b'no archive at all', None], ids=['empty', 'text', 'half'])
def test_a_broken_file_is_named(name, content, tmp_path):
    path = save(tmp_path / name, ARRAYS)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(ConversionError, match=rf'{path} is no readable \{path.suffix} file'):
        read_arrays(path)


def test_archives_of_other_things_are_refused(tmp_path):
    path = tmp_path / 'x.npz'
    np.savez(path, a=np.array([{'pickled': 1}], object))
    with pytest.raises(ConversionError, match='x.npz is no readable .npz file: Object arrays'):
        read_arrays(path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    with pytest.raises(ConversionError, match='readme.txt is no array'):
        read_arrays(path)
    with open(path, 'wb') as file:
        np.save(file, ARRAYS['a.bias'])
    with pytest.raises(ConversionError, match='x.npz is no readable .npz file: no archive of arrays'):
        read_arrays(path)


def test_flipped_bytes_are_noticed(tmp_path):
    path = save(tmp_path / 'x.npz', {'a': np.random.default_rng(0).normal(size=1000)})
    content = bytearray(path.read_bytes())
    content[4000:4010] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(ConversionError, match='x.npz is no readable .npz file: Bad CRC-32'):
        read_arrays(path)


def test_an_element_type_that_numpy_lacks_is_refused(tmp_path):
    header = json.dumps({'a': {'dtype': 'F8_E4M3', 'shape': [4], 'data_offsets': [0, 4]}}).encode()
    path = tmp_path / 'x.safetensors'
    path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(4))
    with pytest.raises(ConversionError, match='x.safetensors is no readable .safetensors file: .*float8_e4m3'):
        read_arrays(path)


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_a_file_without_arrays_is_refused(name, tmp_path):
    with pytest.raises(ConversionError, match=f'{name} holds no arrays'):
        read_arrays(save(tmp_path / name, {}))


def test_no_file_and_an_unknown_suffix_are_refused(tmp_path):
    with pytest.raises(ConversionError, match='no file .*missing.npz'):
        read_arrays(tmp_path / 'missing.npz')
    with pytest.raises(ConversionError, match='no file'):
        read_arrays(tmp_path)
    (tmp_path / 'weights.caffemodel').write_bytes(b'1')
    with pytest.raises(ConversionError, match=r'weights.caffemodel: the name must end in one of \.npz, \.safetensors'):
        read_arrays(tmp_path / 'weights.caffemodel')


def test_without_torch_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    (tmp_path / 'x.pth').write_bytes(b'1')
    with pytest.raises(ConversionError, match=r'x.pth: .* needs torch \(pip install -r requirements-torch.txt\)'):
        read_arrays(tmp_path / 'x.pth')
    assert (ROOT / 'requirements-torch.txt').is_file()


def test_torch_is_imported_for_its_own_files_only(tmp_path):
    save(tmp_path / 'x.npz', ARRAYS)
    code = (
        'import sys; import sognet_jax.programs.convert; from sognet_jax.convert.sources import read_arrays; '
        f'read_arrays({str(tmp_path / "x.npz")!r}); print("torch" in sys.modules)'
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] == 'False'


class TestTorch:
    """Real PyTorch files."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip('torch', reason='torch is not installed')

    @pytest.fixture
    def tensors(self, torch):
        return {name: torch.tensor(array) for name, array in ARRAYS.items()}

    @pytest.mark.parametrize('zipped', [True, False], ids=['new', 'old'])
    @pytest.mark.parametrize('wrapper', [None, 'state_dict', 'model', 'network'])
    def test_state_dicts_are_read_from_wrappers_and_without_prefix(self, torch, tensors, zipped, wrapper, tmp_path):
        content = {f'module.{name}': tensor for name, tensor in tensors.items()}
        if wrapper:
            content = {wrapper: content, 'epoch': 3, 'optimizer': {'state': {}, 'lr': 0.1}}
        torch.save(content, tmp_path / 'x.pth', _use_new_zipfile_serialization=zipped)
        same(read_arrays(tmp_path / 'x.pth'))

    def test_parameters_and_every_type_of_number_are_read(self, torch, tmp_path):
        content = {
            'parameter': torch.nn.Parameter(torch.ones(2)),
            'half': torch.tensor([0.5], dtype=torch.bfloat16),
            'double': torch.tensor([0.25], dtype=torch.float64),
            'count': torch.tensor(7),
            'strided': torch.arange(6.0).reshape(2, 3).T,
        }
        torch.save(content, tmp_path / 'x.pt')
        arrays = read_arrays(tmp_path / 'x.pt')
        same(arrays, {
            'parameter': [1, 1], 'half': [0.5], 'double': [0.25], 'count': 7, 'strided': [[0, 3], [1, 4], [2, 5]],
        })  # fmt: skip
        assert arrays['count'].shape == () and arrays['double'].dtype == np.float32

    def test_other_contents_are_refused(self, torch, tensors, tmp_path):
        path = tmp_path / 'x.pth'
        torch.save(tensors, path)
        half = path.read_bytes()[:-100]
        torch.save(torch.nn.Linear(2, 2), path)
        for content in (path.read_bytes(), half, b'', b'hello'):
            path.write_bytes(content)
            with pytest.raises(ConversionError, match='x.pth is no readable PyTorch file: it is broken, or holds'):
                read_arrays(path)
        torch.save([torch.ones(2)], path)
        with pytest.raises(ConversionError, match='x.pth holds a list, not a dictionary of arrays'):
            read_arrays(path)
        torch.save({'epoch': 3}, path)
        with pytest.raises(ConversionError, match='x.pth holds no arrays'):
            read_arrays(path)

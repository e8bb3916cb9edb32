"""Reading checkpoint files of other programs as NumPy arrays."""

import pathlib
import zipfile
import zlib
from typing import Any

import ml_dtypes  # noqa: F401 (teaches NumPy bfloat16, which .safetensors files may hold)
import numpy as np
import safetensors.numpy

TORCH_SUFFIXES = ('.pth', '.pt', '.tar')
SUFFIXES = ('.npz', '.safetensors', *TORCH_SUFFIXES)

_READ_ERRORS = (
    OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, safetensors.SafetensorError,
    AttributeError, TypeError, KeyError,  # an element type that NumPy lacks
)  # fmt: skip

_WRAPPERS = ('state_dict', 'model', 'network')
"""Keys under which training programs put the weights beside other things."""


class ConversionError(ValueError):
    """A source cannot be read or does not fit the network; the message names the file and every entry at fault."""


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of a `.npz`, `.safetensors` or PyTorch file (`.pth`, `.pt`, `.tar`; needs torch), without the prefix
    `module.` of data-parallel training.

    Raises:
        ConversionError: there is no such file, it is broken or of another kind, or torch is missing.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConversionError(f'no file {path}')
    if path.suffix not in SUFFIXES:
        raise ConversionError(f'{path}: the name must end in one of {", ".join(SUFFIXES)}')
    arrays = _read_torch(path) if path.suffix in TORCH_SUFFIXES else _read_numpy(path)
    if not arrays:
        raise ConversionError(f'{path} holds no arrays')
    if all(name.startswith('module.') for name in arrays):
        return {name.removeprefix('module.'): array for name, array in arrays.items()}
    return arrays


def _read_numpy(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == '.safetensors':
            return safetensors.numpy.load_file(path)
        if not zipfile.is_zipfile(path):
            raise ValueError('no archive of arrays')
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _READ_ERRORS as error:
        raise ConversionError(f'{path} is no readable {path.suffix} file: {error}') from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # NumPy hands out other files of an archive as bytes
            raise ConversionError(f'{path} is no readable .npz file: {name} is no array')
    return arrays


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise ConversionError(
            f'{path}: reading PyTorch files needs torch (pip install -r requirements-torch.txt); '
            'a .safetensors or .npz file with the same entries needs nothing more'
        ) from error
    try:
        content: Any = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises what the unpickler meets: KeyError, RuntimeError, UnpicklingError, ...
        raise ConversionError(
            f'{path} is no readable PyTorch file: it is broken, or holds other objects than tensors '
            f'({type(error).__name__})'
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ConversionError(f'{path} holds a {type(content).__name__}, not a dictionary of arrays')
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, torch.Tensor)}
    return {
        name: value.float().numpy() if value.is_floating_point() else value.numpy() for name, value in tensors.items()
    }

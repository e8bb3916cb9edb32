"""From the arrays of a source to variables of the network, with every entry accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from tqdm import tqdm

from sognet_jax.convert import caffe, layouts
from sognet_jax.convert.names import Entry, Path, published_entry, torchvision_entry
from sognet_jax.convert.sources import ConversionError

Variables = dict[str, Any]

KINDS = ('published', 'upsnet', 'torchvision', 'caffe', 'detectron')


class Source(NamedTuple):
    """A recognised checkpoint.

    Attributes:
        kind: one of `KINDS`.
        arrays: by the names that `entry` uses.
        entry: the path of one of our arrays -> its entry in the source.
        covers: whether the source has an array of ours, by its path; the others stay fresh.
        reads_bgr: the source's network expects images as BGR.
        unused: a regular expression of entries that have no place here.
    """

    kind: str
    arrays: Mapping[str, np.ndarray]
    entry: Callable[[Path], Entry | None]
    covers: Callable[[Path], bool]
    reads_bgr: bool
    unused: str


def recognise(arrays: Mapping[str, np.ndarray]) -> Source:
    """Finds out by the names what a checkpoint is.

    A published SOGNet without a relation head is a UPSNet. Of ImageNet networks only the backbone is used.

    Raises:
        ConversionError: the names are of no known kind.
    """
    names = list(arrays)
    classifier = r'.*\.num_batches_tracked|(fc|fc1000)\..*|pred_[wb]|conv1_b'
    if any(name.startswith('resnet_backbone.') for name in names):
        is_sognet = any(name.startswith('relation_head.') for name in names)
        kind = 'published' if is_sognet else 'upsnet'
        return Source(
            kind, arrays, published_entry, lambda path: is_sognet or path[0] != 'relation_head', True,
            r'.*\.num_batches_tracked',
        )  # fmt: skip
    if caffe.is_caffe(names):
        return Source('caffe', caffe.from_caffe(arrays), torchvision_entry, _in_imagenet, True, classifier)
    if caffe.is_detectron(names):
        return Source('detectron', caffe.from_detectron(arrays), torchvision_entry, _in_imagenet, True, classifier)
    if any(name.startswith('layer1.0.') for name in names):
        return Source('torchvision', arrays, torchvision_entry, _in_imagenet, False, classifier)
    raise ConversionError(
        'the entries are named neither as in the published SOGNet or UPSNet (resnet_backbone...), nor as in '
        f'ImageNet ResNets of torchvision (layer1.0...), Caffe (res2a_...) or Detectron (res2_0_...): {names[:3]}, ...'
    )


def convert(source: Source, template: Variables) -> Variables:
    """The arrays of a source in the places of the network.

    Args:
        source: of `recognise`.
        template: variables of the network, as shapes or arrays.

    Returns:
        The variables that the source covers, as float32 NumPy arrays; the others are left out.

    Raises:
        ConversionError: entries are missing, unexpected or of another shape; all of them are listed.
    """
    wanted = {path: leaf for path, leaf in traverse_util.flatten_dict(template).items() if source.covers(path[1:])}
    entries = {path: _entry(source, path[1:]) for path in wanted}
    problems = _problems(source, wanted, entries)
    if problems:
        raise ConversionError(
            f'{len(problems)} entries of this {source.kind} checkpoint do not fit the network of the config:\n  '
            + '\n  '.join(problems)
        )
    converted = {}
    for path, entry in tqdm(entries.items(), desc='convert', unit='array'):
        array = np.asarray(source.arrays[entry.name], np.float32)
        converted[path] = np.ascontiguousarray(entry.layout.convert(array))
    return traverse_util.unflatten_dict(converted)


def missing_modules(variables: Variables, template: Variables) -> list[str]:
    """The modules, such as `fpn` or `resnet offset`, of which `variables` lack arrays that `template` has."""
    missing = traverse_util.flatten_dict(template).keys() - traverse_util.flatten_dict(variables).keys()
    return sorted({f'{path[1]} offset' if 'offset' in path else path[1] for path in missing})


def merge(converted: Variables, fresh: Variables) -> Variables:
    """Fresh variables with the converted ones in their places."""
    old, new = traverse_util.flatten_dict(fresh), traverse_util.flatten_dict(converted)
    return traverse_util.unflatten_dict(jax.tree.map(np.asarray, old) | new)


def _in_imagenet(path: Path) -> bool:
    """Whether an ImageNet network has an array: the backbone without the offsets of deformable convolutions."""
    return path[0] == 'resnet' and 'offset' not in path


def _entry(source: Source, path: Path) -> Entry | None:
    entry = source.entry(path)
    if path == ('resnet', 'conv1', 'kernel') and source.reads_bgr:
        return entry._replace(layout=layouts.BGR_CONVOLUTION)
    return entry


def _problems(source: Source, wanted: Mapping[Path, Any], entries: Mapping[Path, Entry | None]) -> list[str]:
    """One line for every array that lacks an entry, every entry without a place, and every wrong shape."""
    problems = []
    for path, entry in entries.items():
        if entry is None:
            problems.append(f'missing: nothing in a {source.kind} checkpoint is {"/".join(path)}')
        elif entry.name not in source.arrays:
            problems.append(f'missing: {entry.name}')
        else:
            have, want = source.arrays[entry.name].shape, entry.layout.source_shape(tuple(wanted[path].shape))
            if have != want:
                problems.append(f'wrong shape: {entry.name} has {have}, expected {want}')
    expected = {entry.name for entry in entries.values() if entry is not None}
    for name in source.arrays:
        if name not in expected and not re.fullmatch(source.unused, name):
            problems.append(f'unexpected: {name}')
    return sorted(problems)

"""One conversion from a file to an Orbax checkpoint, with every entry accounted for."""

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from flax import traverse_util
from tqdm import tqdm

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import describe, save_variables
from sognet_jax.convert import caffe, layouts
from sognet_jax.convert.names import Entry, Path, published_entry, torchvision_entry
from sognet_jax.convert.sources import ConversionError, read_arrays
from sognet_jax.convert.transfer import has_classes, transfer_classes
from sognet_jax.files import require_new_folder
from sognet_jax.models.sognet import build_network, initialize, variable_shapes

Variables = dict[str, Any]

_COUNTERS = r'.*\.num_batches_tracked'
"""What newer versions of PyTorch add to every batch normalisation; regular expression."""


class Source(NamedTuple):
    """A recognised checkpoint."""

    kind: str  # published, upsnet, torchvision, caffe or detectron
    arrays: Mapping[str, np.ndarray]
    entry: Callable[[Path], Entry | None]  # the path of one of our arrays -> its entry in the source
    covers: Callable[[Path], bool]  # whether the source has an array of ours, by its path; the others stay fresh
    reads_bgr: bool  # the source's network expects images as BGR
    unused: str  # a regular expression of entries that have no place here


def convert_file(
    config: ml_collections.ConfigDict,
    source: str | pathlib.Path,
    output: str | pathlib.Path,
    source_categories: str | None = None,
    channels: str | None = None,
) -> str:
    """Writes the checkpoint `output` of the config's network, with the weights of the file `source`, and says what was
    done, in a few lines.

    What the source does not have (all heads, for an ImageNet backbone; the relation head, for UPSNet) and classes that
    it does not know are initialised from `config.seed`.

    Args:
        source: a `.pth`, `.safetensors` or `.npz` file.
        source_categories: the source's category set, where it is another one than the config's.
        channels: `rgb` or `bgr`, the colours the source reads; None: what its kind usually does.

    Raises:
        ConversionError: the source cannot be read or does not fit, or `output` is not empty; nothing is written.
    """
    folder = pathlib.Path(output).resolve()
    _check_backbone(config)
    try:
        require_new_folder(folder)
        target = category_set(config.categories)
        origin = category_set(source_categories, '--source_categories') if source_categories else target
    except ValueError as error:
        raise ConversionError(str(error)) from error
    arrays = read_arrays(source)
    try:
        recognised = recognise(arrays)
        if channels is not None:
            recognised = recognised._replace(reads_bgr=channels == 'bgr')
        variables, report = _all_variables(config, recognised, origin, target)
    except ConversionError as error:
        raise ConversionError(f'{source}: {error}') from error
    try:
        save_variables(folder, variables, describe(config, target))
    except OSError as error:
        raise ConversionError(f'cannot make the folder {folder}: {error}') from error
    return '\n'.join([f'{source}: {report[0]}', *report[1:], *_notes(config, recognised), f'wrote {folder}'])


def recognise(arrays: Mapping[str, np.ndarray]) -> Source:
    """Finds out by the names what a checkpoint is.

    A published SOGNet without a relation head is a UPSNet. Of ImageNet networks only the backbone is used.

    Raises:
        ConversionError: the names are of no known kind.
    """
    names = list(arrays)
    if any(name.startswith('resnet_backbone.') for name in names):
        is_sognet = any(name.startswith('relation_head.') for name in names)
        return Source(
            'published' if is_sognet else 'upsnet', arrays, published_entry,
            lambda path: is_sognet or path[0] != 'relation_head', True, _COUNTERS,
        )  # fmt: skip
    if any(map(caffe.CAFFE.fullmatch, names)):
        return Source(
            'caffe', caffe.fold_first_bias(arrays), caffe.caffe_entries(names), _in_imagenet, True,
            _COUNTERS + r'|fc1000\..*',
        )  # fmt: skip
    if any(map(caffe.DETECTRON.fullmatch, names)):
        # Its first convolution has no bias: the entry is a relic of Caffe's, merged into the normalisation.
        return Source(
            'detectron', arrays, caffe.detectron_entry, _in_imagenet, True, r'conv1_b|(fc1000|pred)_[wb]'
        )  # fmt: skip
    if any(name.startswith('layer1.0.') for name in names):
        return Source('torchvision', arrays, torchvision_entry, _in_imagenet, False, _COUNTERS + r'|fc\..*')
    raise ConversionError(
        'the entries are named neither as in the published SOGNet or UPSNet (resnet_backbone...), nor as in '
        f'ImageNet ResNets of torchvision (layer1.0...), Caffe (res2a_...) or Detectron (res2_0_...): {names[:3]}, ...'
    )


def convert(source: Source, template: Variables) -> Variables:
    """The arrays of a source in the places of the network, whose variables `template` has as shapes or arrays.

    They are float32 arrays of NumPy; what the source does not cover is left out.

    Raises:
        ConversionError: entries are missing, unexpected or of another shape; all of them are listed.
    """
    problems = find_problems(source, template)
    if problems:
        raise ConversionError(
            f'{len(problems)} entries of this {source.kind} checkpoint do not fit the network of the config:\n  '
            + '\n  '.join(problems)
        )
    converted = {}
    for path, entry in tqdm(_entries(source, template).items(), desc='convert', unit='array'):
        array = np.asarray(source.arrays[entry.name], np.float32)
        converted[path] = np.ascontiguousarray(entry.layout.convert(array))
    return traverse_util.unflatten_dict(converted)


def find_problems(source: Source, template: Variables) -> list[str]:
    """One line for every entry that the source lacks, that has no place in the network, or that has a wrong shape."""
    entries = _entries(source, template)
    leaves = traverse_util.flatten_dict(template)
    problems = set()
    for path, entry in entries.items():
        if entry is None:
            problems.add(f'missing: {"/".join(path[1:])} of the network, which no {source.kind} checkpoint has')
        elif entry.name not in source.arrays:
            problems.add(f'missing: {entry.name}')
        else:
            have, want = source.arrays[entry.name].shape, entry.layout.source_shape(tuple(leaves[path].shape))
            if have != want:
                problems.add(f'wrong shape: {entry.name} has {have}, expected {want}')
    expected = {entry.name for entry in entries.values() if entry is not None}
    for name in source.arrays:
        if name not in expected and not re.fullmatch(source.unused, name):
            problems.add(f'unexpected: {name}')
    return sorted(problems)


def missing_modules(variables: Variables, template: Variables) -> list[str]:
    """The modules, such as `fpn`, of which `variables` lack arrays that `template` has; of the backbone the offsets."""
    missing = traverse_util.flatten_dict(template).keys() - traverse_util.flatten_dict(variables).keys()
    return sorted({'resnet offsets' if path[1] == 'resnet' else path[1] for path in missing})


def _all_variables(
    config: ml_collections.ConfigDict, source: Source, origin: CategorySet, target: CategorySet
) -> tuple[Variables, list[str]]:
    """Variables of the config's network, and what they are made of."""
    template = variable_shapes(build_network(config.model, origin))
    variables = convert(source, template)
    report = [f'{source.kind}, {len(jax.tree.leaves(variables))} arrays']
    if origin is not target and not has_classes(variables):
        raise ConversionError(f'a {source.kind} checkpoint has no heads: leave --source_categories out')
    modules = missing_modules(variables, template)
    if not modules and origin is target:
        return variables, report
    if modules:
        report.append(f'fresh: {", ".join(modules)}')
    fresh = initialize(build_network(config.model, target), config.seed)
    if origin is not target:
        variables, without = transfer_classes(variables, fresh, origin, target)
        report.append(f'classes of {target.name} that {origin.name} lacks, fresh: {", ".join(without) or "none"}')
    old, new = traverse_util.flatten_dict(fresh), traverse_util.flatten_dict(variables)
    return traverse_util.unflatten_dict(jax.tree.map(np.asarray, old) | new), report


def _check_backbone(config: ml_collections.ConfigDict) -> None:
    """The checkpoints that can be read are all of one kind of network."""
    for field, value in (('block', 'bottleneck'), ('norm', 'frozen_batch')):
        if config.model.backbone[field] != value:
            raise ConversionError(
                f'config field model.backbone.{field} must be {value!r} for the weights of other programs, '
                f'not {config.model.backbone[field]!r}'
            )


def _notes(config: ml_collections.ConfigDict, source: Source) -> list[str]:
    """Fields of the config that shapes cannot tell and that differ from how such weights are trained.

    Networks that read BGR follow Caffe (the mean colour is subtracted and the first convolution of a block has its
    stride), those that read RGB follow torchvision.
    """
    caffe = source.reads_bgr
    usual = {
        'model.backbone.strided_conv': (config.model.backbone.strided_conv, 'conv1' if caffe else 'conv2'),
        'model.pixel_std': (tuple(config.model.pixel_std), (1.0, 1.0, 1.0) if caffe else (58.395, 57.12, 57.375)),
    }
    return [
        f'note: {field} is {value!r}; weights of this kind usually go with {expected!r}'
        for field, (value, expected) in usual.items()
        if value != expected
    ]


def _in_imagenet(path: Path) -> bool:
    """Whether an ImageNet network has an array: the backbone without the offsets of deformable convolutions."""
    return path[0] == 'resnet' and 'offset' not in path


def _entries(source: Source, template: Variables) -> dict[Path, Entry | None]:
    """What the source has for each array of ours that it covers."""
    paths = [path for path in traverse_util.flatten_dict(template) if source.covers(path[1:])]
    entries = {path: source.entry(path[1:]) for path in paths}
    first = ('params', 'resnet', 'conv1', 'kernel')
    if source.reads_bgr and (entry := entries[first]) is not None:
        entries[first] = entry._replace(layout=layouts.BGR_CONVOLUTION)
    return entries

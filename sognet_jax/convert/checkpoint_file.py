"""One conversion from a file to an Orbax checkpoint."""

import pathlib
from typing import Any

import jax
import ml_collections

from sognet_jax.categories import CategorySet
from sognet_jax.category_files import category_set
from sognet_jax.checkpoints import describe, save_variables
from sognet_jax.convert.conversion import Source, convert, merge, missing_modules, recognise
from sognet_jax.convert.sources import ConversionError, read_arrays
from sognet_jax.convert.transfer import has_classes, transfer_classes
from sognet_jax.files import require_new_folder
from sognet_jax.models.sognet import build_network, initialize, variable_shapes

Variables = dict[str, Any]


def convert_file(
    config: ml_collections.ConfigDict,
    source: str | pathlib.Path,
    output: str | pathlib.Path,
    source_categories: str | None = None,
    channels: str | None = None,
) -> str:
    """Writes the checkpoint `output` of the config's network, with the weights of the file `source`.

    What the source does not have (all heads, for an ImageNet backbone; the relation head, for UPSNet) and classes that
    it does not know are initialised from `config.seed`.

    Args:
        source: a `.pth`, `.safetensors` or `.npz` file.
        source_categories: the source's category set, where it is another one than the config's.
        channels: `rgb` or `bgr`, the colours the source reads; None: what its kind usually does.

    Returns:
        What was done, in a few lines.

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
    return merge(variables, fresh), report


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

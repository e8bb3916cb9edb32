"""One conversion from a file to an Orbax checkpoint."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from sognet_jax.categories import CATEGORY_SETS
from sognet_jax.convert.conversion import convert, merge, missing_modules, recognise
from sognet_jax.convert.sources import ConversionError, read_arrays
from sognet_jax.convert.transfer import transfer_classes
from sognet_jax.models.sognet import build_network, initialize


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
        config: an experiment.
        source: a `.pth`, `.safetensors` or `.npz` file.
        output: folder of the checkpoint.
        source_categories: the source's category set, where it is another one than the config's.
        channels: `rgb` or `bgr`, the colours the source reads; None: what its kind usually does.

    Returns:
        What was done, in a few lines.

    Raises:
        ConversionError: the source cannot be read or does not fit, or `output` holds a checkpoint; nothing is written.
    """
    folder = pathlib.Path(output).resolve()
    if (folder / 'state').exists() or (folder / 'checkpoints').exists():
        raise ConversionError(f'{folder} already holds a checkpoint')
    target = CATEGORY_SETS[config.categories]
    if (source_categories or target.name) not in CATEGORY_SETS:
        raise ConversionError(f'--source_categories must be one of {tuple(CATEGORY_SETS)}, not {source_categories!r}')
    origin = CATEGORY_SETS[source_categories or target.name]

    recognised = recognise(read_arrays(source))
    if channels is not None:
        recognised = recognised._replace(reads_bgr=channels == 'bgr')
    network = build_network(config.model, origin)
    template = jax.eval_shape(lambda: initialize(network, 0))
    variables = convert(recognised, template)
    report = [f'{source}: {recognised.kind}, {len(jax.tree.leaves(variables))} arrays']
    modules = missing_modules(variables, template)
    if modules or origin is not target:
        fresh = initialize(build_network(config.model, target), config.seed)
        report += [f'fresh: {", ".join(modules)}'] if modules else []
        if origin is not target:
            variables, without = transfer_classes(variables, fresh, origin, target)
            report.append(f'classes of {target.name} that {origin.name} lacks, fresh: {", ".join(without) or "none"}')
        variables = merge(variables, fresh)
    write_variables(folder, variables)
    report.append(f'wrote {folder}')
    return '\n'.join(report)


def write_variables(folder: pathlib.Path, variables: dict[str, Any]) -> None:
    """Writes variables as a checkpoint that `restore_variables` reads; all of it or nothing."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / 'state', jax.tree.map(np.asarray, variables))

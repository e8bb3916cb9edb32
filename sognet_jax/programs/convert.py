r"""Converts a checkpoint of another program:

    python -m sognet_jax.programs.convert --config=configs/coco_r50.py:published --source=sognet.pth \
        --output=checkpoints/sognet

The result is a checkpoint of the config's network for `eval.py`, `predict.py`, and, as
`--config.train.initialize_from=checkpoints/sognet`, for `train.py`.
"""

from collections.abc import Sequence

from absl import flags

from sognet_jax.convert.conversion import ConversionError, convert_file
from sognet_jax.programs import command_line


def main(arguments: Sequence[str]) -> None:
    """Converts as the flags say."""
    given = flags.FLAGS
    try:
        print(convert_file(given.config, given.source, given.output, given.source_categories, given.channels))
    except ConversionError as error:
        raise ConversionError(f'{error}\nNothing was written.') from error


def start() -> None:
    """Runs the program."""
    flags.DEFINE_string('source', None, 'A .pth (needs torch), .safetensors or .npz file.', required=True)
    flags.DEFINE_string('output', None, 'Folder for the checkpoint, new or empty.', required=True)
    flags.DEFINE_string(
        'source_categories', None, 'The classes of the source where they are not those of the config, for example coco.'
    )
    flags.DEFINE_enum(
        'channels', None, ['rgb', 'bgr'], 'Order of the colours that the source was trained with, where it is unusual.'
    )
    command_line.run(main)


if __name__ == '__main__':
    start()

r"""Converts a checkpoint of another program:

    python -m sognet_jax.programs.convert --config=configs/coco_r50.py:published --source=sognet.pth \
        --output=checkpoints/sognet

The result is a checkpoint of the config's network for `eval.py`, `predict.py`, and, as
`--config.train.initialize_from=checkpoints/sognet`, for `train.py`.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax.convert.files import ConversionError, convert_file

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment whose network the checkpoint is for.')
flags.mark_flag_as_required('config')
SOURCE = flags.DEFINE_string('source', None, 'A .pth (needs torch), .safetensors or .npz file.', required=True)
OUTPUT = flags.DEFINE_string('output', None, 'Folder for the checkpoint, new or empty.', required=True)
CATEGORIES = flags.DEFINE_string(
    'source_categories', None, 'The classes of the source where they are not those of the config, for example coco.'
)
CHANNELS = flags.DEFINE_enum(
    'channels', None, ['rgb', 'bgr'], 'Order of the colours that the source was trained with, where it is unusual.'
)


def main(arguments: list[str]) -> None:
    """Converts as the flags say."""
    logging.set_verbosity(logging.ERROR)  # Orbax narrates every step; what fails is raised
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    try:
        print(convert_file(CONFIG.value, SOURCE.value, OUTPUT.value, CATEGORIES.value, CHANNELS.value))
    except ConversionError as error:
        raise SystemExit(f'{error}\nNothing was written.') from error


if __name__ == '__main__':
    app.run(main)

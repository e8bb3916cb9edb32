"""Evaluates a checkpoint: `python eval.py --config=configs/shapes.py --checkpoint=runs/shapes`.

Prints a table and writes `metrics.json` and pictures to `eval/` in the run's folder.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax.training.checkpoints import run_folder
from sognet_jax.training.evaluate import evaluate

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment: configs/NAME.py or configs/NAME.py:VARIANT.')
CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.')
OUTPUT = flags.DEFINE_string('output', None, 'Folder for the results; default: eval/ of the run.')
PICTURES = flags.DEFINE_integer('pictures', 8, 'How many of the first images are drawn.')


def main(arguments: list[str]) -> None:
    """Evaluates as the flags say."""
    logging.set_verbosity(logging.ERROR)  # tfds and Orbax narrate every step; what fails is raised
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    output = OUTPUT.value or run_folder(CHECKPOINT.value) / 'eval'
    evaluate(CONFIG.value, CHECKPOINT.value, output, PICTURES.value)


if __name__ == '__main__':
    flags.mark_flags_as_required(['config', 'checkpoint'])
    app.run(main)

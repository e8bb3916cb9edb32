"""Evaluates a checkpoint: `python eval.py --config=configs/shapes.py --checkpoint=runs/shapes`.

Prints a table and writes `metrics.json` and pictures to `eval/` in the run's folder. With `--save_predictions` the
results are kept in the formats that the servers of COCO and Cityscapes take, and `--only_metrics` evaluates them again.
"""

import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from sognet_jax.checkpoints import run_folder
from sognet_jax.cpu_convolutions import choose_eigen
from sognet_jax.programs.evaluate import Outputs, evaluate, evaluate_saved

CONFIG = config_flags.DEFINE_config_file('config', None, 'An experiment: configs/NAME.py or configs/NAME.py:VARIANT.')
CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.')
OUTPUT = flags.DEFINE_string('output', None, 'Folder for the results; default: eval/ of the run.')
PICTURES = flags.DEFINE_integer('pictures', 8, 'How many of the first images are drawn.')
SAVE = flags.DEFINE_bool('save_predictions', False, 'Write predictions/, with what the benchmark servers take.')
REPORT = flags.DEFINE_bool('report', False, 'Write report.html: numbers, classes, the worst and the best images.')
ONLY_METRICS = flags.DEFINE_bool('only_metrics', False, 'Evaluate the predictions/ in --output, without a network.')


def main(arguments: list[str]) -> None:
    """Evaluates as the flags say."""
    choose_eigen()
    logging.set_verbosity(logging.ERROR)  # tfds and Orbax narrate every step; what fails is raised
    if len(arguments) > 1:
        raise app.UsageError(f'unexpected arguments: {arguments[1:]}')
    if not (CHECKPOINT.value or ONLY_METRICS.value and OUTPUT.value):
        raise app.UsageError('--checkpoint is missing (with --only_metrics, --output is enough)')
    folder = pathlib.Path(OUTPUT.value or run_folder(CHECKPOINT.value) / 'eval')
    outputs = Outputs(folder, num_pictures=PICTURES.value, predictions=SAVE.value, report=REPORT.value)
    if ONLY_METRICS.value:
        evaluate_saved(CONFIG.value, outputs)
    else:
        evaluate(CONFIG.value, CHECKPOINT.value, outputs)


if __name__ == '__main__':
    flags.mark_flags_as_required(['config'])
    app.run(main)

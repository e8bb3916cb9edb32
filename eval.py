"""Evaluates a checkpoint: `python eval.py --checkpoint=runs/shapes`.

The checkpoint says what network and data it is of; `--config.data.source=DIR`, `--config.inference.score_threshold=0.5`
and the like override what it says, `--config=FILE` all that does not contradict its network.

Prints a table and writes `metrics.json` and pictures to `eval/` in the run's folder. With `--save_predictions` the
results are kept in the formats that the servers of COCO and Cityscapes take, and `--only_metrics` evaluates them again.
"""

import pathlib
from collections.abc import Sequence

from absl import app, flags

from sognet_jax.checkpoints import run_folder
from sognet_jax.programs import command_line
from sognet_jax.programs.evaluate import Outputs, evaluate, evaluate_saved

CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of a run, or of one of its checkpoints.')
OUTPUT = flags.DEFINE_string('output', None, 'Folder for the results; default: eval/ of the run.')
PICTURES = flags.DEFINE_integer('pictures', 8, 'How many of the first images are drawn.')
SAVE = flags.DEFINE_bool('save_predictions', False, 'Write predictions/, with what the benchmark servers take.')
REPORT = flags.DEFINE_bool('report', False, 'Write report.html: numbers, classes, the worst and the best images.')
ONLY_METRICS = flags.DEFINE_bool('only_metrics', False, 'Evaluate the predictions/ in --output, without a network.')


def main(arguments: Sequence[str]) -> None:
    """Evaluates as the flags say."""
    if not (CHECKPOINT.value or ONLY_METRICS.value and OUTPUT.value):
        raise app.UsageError('--checkpoint is missing (with --only_metrics, --config and --output are enough)')
    folder = pathlib.Path(OUTPUT.value or run_folder(CHECKPOINT.value) / 'eval')
    outputs = Outputs(folder, num_pictures=PICTURES.value, predictions=SAVE.value, report=REPORT.value)
    if ONLY_METRICS.value:
        evaluate_saved(flags.FLAGS.config, outputs)
    else:
        evaluate(flags.FLAGS.config, CHECKPOINT.value, outputs)


if __name__ == '__main__':
    command_line.run(main)

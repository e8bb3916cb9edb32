"""Evaluates a checkpoint: `python eval.py --checkpoint=runs/shapes`.

The checkpoint says what network and data it is of; `--config.data.source=DIR`, `--config.inference.score_threshold=0.5`
and the like override what it says, `--config=FILE` all that does not contradict its network.

Prints a table and writes `metrics.json` and pictures to `eval/` in the run's folder. With `--save_predictions` the
results are kept in the formats that the servers of COCO and Cityscapes take, and `--only_metrics` evaluates them again.
"""

from sognet_jax.programs.evaluate import start

if __name__ == '__main__':
    start()

"""Exports a checkpoint for inference: `python export.py --checkpoint=runs/shapes --output=DIR`.

DIR gets the parameters as a checkpoint of their own, without an optimizer, which eval.py, predict.py and
sognet_jax.load take; the inference function as serialized StableHLO, one file for each size of the network's input,
which jax and numpy alone can run; and export.json, which says what goes in and comes out. See docs/export.md.
"""

from sognet_jax.programs.export import start

if __name__ == '__main__':
    start()

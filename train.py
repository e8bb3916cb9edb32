"""Trains a network: `python train.py --config=configs/shapes.py --workdir=runs/shapes`.

Fields of the config are overridden as `--config.optimizer.learning_rate=0.02`. Started again with the same workdir,
training goes on from the newest checkpoint.
"""

from sognet_jax.programs.train import start

if __name__ == '__main__':
    start()

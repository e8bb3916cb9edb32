"""The tiny network as a config file for programs: `--config=tests/support/tiny.py`."""

from tests.support.examples import tiny_config


def get_config():
    config = tiny_config()
    config.data.num_train = 64
    config.data.num_validation = 16
    config.eval_batch_size = 2
    config.expected = {}
    config.train.update(steps=60, log_every=10, checkpoint_every=20, eval_every=20, eval_images=8)
    return config

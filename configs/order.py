"""The relation head alone, from images of known order: InstaOrder, COCOA, KINS, SynTable (docs/order-benchmarks.md).

    python train.py --config=configs/order.py --workdir=runs/order --config.data.name=kins --config.data.source=DIR \
        --config.data.train_split=instances_train --config.data.eval_split=instances_val

A split is an annotation file, by its name without suffix. All instances are of one class, unless
`--config.categories=coco` or a file of categories names theirs. Nothing is tuned.
"""

import ml_collections

from sognet_jax.configs import coco_r50


def get_config(variant: str = '') -> ml_collections.ConfigDict:
    """The config; there are no variants."""
    if variant:
        raise ValueError(f'configs/order.py has no variant {variant!r}')
    config = coco_r50.get_config()
    config.categories = 'object'
    config.data.update(name='instaorder', train_split='InstaOrder_train2017', eval_split='InstaOrder_val2017')
    config.optimizer.update(warmup_steps=300, drops=(8_000, 9_500))
    config.train.update(only='relation', steps=10_000, eval_every=2_000, checkpoint_every=2_000)
    config.train.best_metric = 'order_accuracy'
    return config

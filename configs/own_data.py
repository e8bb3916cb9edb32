"""A small SOGNet for photographs of one's own, with instances alone or with panoptic maps too: docs/own_data.md.

    python train.py --config=configs/own_data.py --workdir=runs/mine --config.data.source=DIR --config.categories=FILE

A beginning, in which nothing is tuned: sizes, rates and steps are those of `configs/coco_mini.py`.
"""

import ml_collections

from sognet_jax.configs import coco_mini


def get_config(variant: str = '') -> ml_collections.ConfigDict:
    """The config; there are no variants."""
    if variant:
        raise ValueError(f'configs/own_data.py has no variant {variant!r}')
    config = coco_mini.get_config()
    config.data.update(name='coco_format', train_split='train', eval_split='train', flip=True)
    config.objective.relation_loss = 'overlap'  # instances alone do not say who lies in front
    config.train.best_metric = 'mask_AP'
    config.expected = ml_collections.ConfigDict()
    return config

"""A small SOGNet that learns a handful of COCO images by heart: does everything fit together on real annotations?

    python train.py --config=configs/coco_mini.py --workdir=runs/coco_mini --config.data.source=DIR
    python eval.py --checkpoint=runs/coco_mini --config.data.source=DIR

DIR has the official COCO layout with a split `val2017`, on which the network is trained and evaluated.

On 11 images of COCO val2017 with 96 overlapping pairs, 17 minutes on two CPU cores: PQ 69.3 (things 77.0, stuff 46.0),
order accuracy against R* 99.0.
"""

import ml_collections

from sognet_jax.configs import shapes


def get_config(variant: str = '') -> ml_collections.ConfigDict:
    """The config; there are no variants."""
    if variant:
        raise ValueError(f'configs/coco_mini.py has no variant {variant!r}')
    config = shapes.get_config()
    config.categories = 'coco'
    config.batch_size = 2
    config.eval_batch_size = 1

    model = config.model
    model.backbone.update(stage_sizes=(1, 2, 2, 1), width=32)
    model.pyramid.features = 64
    model.rpn.features = 64
    model.box.features = 256
    model.mask.features = 48
    model.semantic.features = (48, 48)

    config.objective.update(rpn_batch_size=128, proposals_per_level=400, proposals=300, box_batch_size=64)
    config.inference.update(proposals_per_level=400, proposals=300, max_detections=50, stuff_area_limit=4096)
    config.optimizer.learning_rate = 0.04  # for 8 images; the 2 images of a step get 0.01
    config.optimizer.update(gradient_clip=15.0, warmup_steps=200, drops=(1500, 1850))
    config.data.update(name='coco', train_split='val2017', eval_split='val2017')
    config.data.update(image_size=(288, 384), short_side=288, long_side=384, max_instances=28, flip=False)
    config.train.update(steps=2000, checkpoint_every=500)
    config.expected = ml_collections.ConfigDict({'order_accuracy': 99.0})
    return config

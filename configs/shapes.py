"""A small SOGNet on the drawn `shapes` scenes: what `make demo` trains on a CPU.

    python train.py --config=configs/shapes.py --workdir=runs/shapes
    python eval.py --checkpoint=runs/shapes

4 to 10 minutes on two CPU cores. On 200 unseen scenes, mean and range of three seeds: PQ 63.7 (62.5 to 64.5); order
accuracy against the true order 89.0 (88.7 to 89.3), where the best rule by category gets 74.0 and by geometry 73.5.

The order is learned as in `configs/coco_r50.py`.

Variants, the rows of the paper's Tables 1 and 2 (docs/results.md has what they reach, `make tables` trains them all):

    :box, :category, :both   relations from geometry, from category, from both, in place of both and appearance
    :overlap                 Eq. (12), which knows overlaps but no order
    :plain                   PlainNet: no relation and no panoptic loss; evaluated with inference.method
                             `panoptic_head`, `heuristics` or `label_prior`
    :crowded                 harder scenes: more objects, of few categories each
    :occlusion               PlainNet with the occlusion head (OCFusion), the rival of the relations
"""

import ml_collections

from sognet_jax.configs import coco_r50

VARIANTS = ('', 'box', 'category', 'both', 'overlap', 'plain', 'crowded', 'occlusion')


def get_config(variant: str = '') -> ml_collections.ConfigDict:
    """The config; `variant` is one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise ValueError(f'configs/shapes.py has the variants {VARIANTS}, not {variant!r}')
    config = coco_r50.get_config()
    config.categories = 'shapes'
    config.eval_batch_size = 20
    _shrink(config)

    objective = config.objective
    objective.update(rpn_batch_size=64, proposals_per_level=200, proposals=100, box_batch_size=32)
    # With 'zero', two coverers wipe an instance out even where they do not reach: ground truth through inference then
    # gives PQ 92.9 instead of 97.8.
    objective.outside = 'absent'
    objective.weights.update(semantic=0.5, panoptic=0.5)

    config.inference.update(proposals_per_level=200, proposals=100, max_detections=24, stuff_area_limit=64)
    config.inference.score_threshold = 0.4  # so short a training leaves the scores low
    config.inference.outside = 'absent'
    config.optimizer.update(learning_rate=0.02, warmup_steps=100, drops=(1000, 1280), gradient_clip=10.0)
    config.data.update(name='shapes', train_split='train', eval_split='validation', max_instances=10)
    config.data.update(image_size=(128, 128), short_side=128, long_side=128)
    config.data.update(crowded=False, num_train=3000, num_validation=200, seed=0)
    config.train.update(steps=1400, log_every=50, checkpoint_every=350, eval_every=700, eval_images=100)
    config.expected = ml_collections.ConfigDict({'PQ': 62.0, 'order_accuracy_true': 86.0})
    _vary(config, variant)
    return config


def crowd(config: ml_collections.ConfigDict) -> None:
    """Makes the scenes harder: more objects, of few categories each; a third of the overlapping pairs have one."""
    config.data.update(crowded=True, max_instances=16)
    config.inference.update(max_detections=32, same_class_threshold=0.6)


def _vary(config: ml_collections.ConfigDict, variant: str) -> None:
    if variant:
        config.expected = ml_collections.ConfigDict()
    if variant in ('box', 'category', 'both'):
        features = {'box': ('geometry',), 'category': ('category',), 'both': ('category', 'geometry')}[variant]
        for name in ('category', 'geometry', 'appearance'):
            config.model.relation[name] = name in features
    if variant == 'crowded':
        crowd(config)
    if variant == 'overlap':
        config.objective.relation_loss = 'overlap'
        # Eq. (12) only strengthens the direction that a relation has; the panoptic loss has to be able to turn it.
        config.objective.weights.relation = 1.0
    if variant in ('plain', 'occlusion'):
        config.objective.weights.update(panoptic=0.0, relation=0.0)
        config.inference.update(method='panoptic_head', panoptic_head=1)
    if variant == 'occlusion':
        config.model.occlusion.width = 32
        config.inference.method = 'occlusion_head'


def _shrink(config: ml_collections.ConfigDict) -> None:
    model = config.model
    model.backbone.update(stage_sizes=(1, 1, 1, 1), block='basic', width=24, norm='group', frozen_stages=0)
    model.pyramid.features = 32
    model.rpn.features = 32
    model.box.features = 128
    model.mask.update(features=32, num_convs=1)
    model.semantic.features = (32, 32)
    model.relation.update(rank=64, category_features=32, appearance_features=32, geometry_features=128)
    model.occlusion.update(features=64, pairs=16)

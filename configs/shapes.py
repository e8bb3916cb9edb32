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
    objective.rpn_batch_size = 64
    objective.proposals_per_level = 200
    objective.proposals = 100
    objective.box_batch_size = 32
    # With 'zero', two coverers wipe an instance out even where they do not reach: ground truth through inference then
    # gives PQ 92.9 instead of 97.8.
    objective.outside = 'absent'
    objective.weights.semantic = 0.5
    objective.weights.panoptic = 0.5

    inference = config.inference
    inference.proposals_per_level = 200
    inference.proposals = 100
    # So short a training leaves the scores low.
    inference.score_threshold = 0.4
    inference.max_detections = 24
    inference.stuff_area_limit = 64
    inference.outside = 'absent'

    config.optimizer.learning_rate = 0.02
    config.optimizer.warmup_steps = 100
    config.optimizer.drops = (1000, 1280)
    config.optimizer.gradient_clip = 10.0

    config.data.name = 'shapes'
    config.data.train_split = 'train'
    config.data.eval_split = 'validation'
    config.data.image_size = (128, 128)
    config.data.short_side = 128
    config.data.long_side = 128
    config.data.max_instances = 10
    config.data.crowded = False
    config.data.num_train = 3000
    config.data.num_validation = 200
    config.data.seed = 0

    config.train.steps = 1400
    config.train.log_every = 50
    config.train.checkpoint_every = 350
    config.train.eval_every = 700
    config.train.eval_images = 100
    config.expected = ml_collections.ConfigDict({'PQ': 62.0, 'order_accuracy_true': 86.0})
    _vary(config, variant)
    return config


def crowd(config: ml_collections.ConfigDict) -> None:
    """Makes the scenes harder: more objects, of few categories each; a third of the overlapping pairs have one."""
    config.data.crowded = True
    config.data.max_instances = 16
    config.inference.max_detections = 32
    config.inference.same_class_threshold = 0.6


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
        config.objective.weights.panoptic = 0.0
        config.objective.weights.relation = 0.0
        config.inference.method = 'panoptic_head'
        config.inference.panoptic_head = 1
    if variant == 'occlusion':
        config.model.occlusion.width = 32
        config.inference.method = 'occlusion_head'


def _shrink(config: ml_collections.ConfigDict) -> None:
    model = config.model
    model.backbone.update(stage_sizes=(1, 1, 1, 1), block='basic', width=24, norm='group', frozen_stages=0)
    model.pyramid.features = 32
    model.rpn.features = 32
    model.box.features = 128
    model.mask.features = 32
    model.mask.num_convs = 1
    model.semantic.features = (32, 32)
    model.relation.rank = 64
    model.relation.category_features = 32
    model.relation.appearance_features = 32
    model.relation.geometry_features = 128
    model.occlusion.features = 64
    model.occlusion.pairs = 16

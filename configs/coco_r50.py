"""SOGNet with ResNet-50 on COCO panoptic 2017: the recipe of the paper, but for how the order is learned.

    python train.py --config=configs/coco_r50.py --workdir=runs/coco_r50 --config.data.source=/path/to/coco

The source is the official layout: `annotations/{instances,panoptic}_{train,val}2017.json`, the panoptic PNG folders and
`train2017/`, `val2017/`. 180,000 steps at batch 8 (one image on each of 8 GPUs in the paper).

The paper reports PQ 43.7, SQ 78.7, RQ 53.5 on val2017. This config has not been trained to the end here. Without
`--config.train.initialize_from=...` (an ImageNet backbone, see `python -m sognet_jax.programs.convert --help`) the
backbone starts from random weights.

Who covers whom is learned from R*, by the cross entropy of M, with a ReLU behind K (docs/relations.md): the head alone
learns it on real annotations in 300 steps, from every seed that was tried.

Variants: `configs/coco_r50.py:ablation` is the shorter schedule of Table 1 (45,000 steps);
`configs/coco_r50.py:bf16` computes features in bfloat16, for accelerators; parameters, scores, boxes, relations, logits
and losses stay float32 (docs/training.md);
`configs/coco_r50.py:paper` has the relation part of the paper to the letter, Eq. (12) and a linear K. It is not
expected to learn the order: on the shapes, with fixed and perfect inputs, the head alone has 32 % of the pairs right
after 300 steps, and 43 % of those that it relates the wrong way round (docs/differences.md);
`configs/coco_r50.py:published` is the authors' code where it differs from the paper (docs/differences.md), the network
that their checkpoints fit; its relation loss is Eq. (12) too.
"""

import ml_collections

VARIANTS = ('', 'ablation', 'bf16', 'paper', 'published')


def get_config(variant: str = '') -> ml_collections.ConfigDict:
    """The config; `variant` is one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise ValueError(f'configs/coco_r50.py has the variants {VARIANTS}, not {variant!r}')
    config = ml_collections.ConfigDict()
    config.categories = 'coco'
    config.seed = 0
    config.batch_size = 8  # over all devices
    config.eval_batch_size = 1  # on each device
    config.model = _model()
    config.objective = _objective()
    config.inference = _inference()
    config.optimizer = _optimizer()

    config.data = ml_collections.ConfigDict()
    config.data.name = 'coco'
    config.data.source = ''  # folder in the official layout
    config.data.dir = 'data'  # where the prepared array_record files go
    config.data.train_split = 'train2017'
    config.data.also_train_on = ()  # more of it: (folder, split), ...
    config.data.eval_split = 'val2017'
    config.data.image_size = (800, 1344)
    config.data.short_side = 800
    config.data.long_side = 1333
    config.data.max_instances = 100
    config.data.train_short_sides = ()  # (least, greatest): drawn for each training image in place of short_side
    config.data.flip = True
    config.data.inclusive_boxes = False  # published: True, rescales their inclusive corners
    config.data.skip_corrupt = False  # True: another image is trained on in place of one whose record cannot be read
    config.data.workers = 0  # processes that make batches; 0: threads of the training process
    config.data.relations = True  # False: Cityscapes without polygon files, and so without overlaps
    config.data.matching = 'masks'  # of instances and panoptic segments; published: 'boxes'

    config.train = ml_collections.ConfigDict()
    config.train.steps = 180_000
    config.train.log_every = 20
    config.train.checkpoint_every = 5_000
    config.train.keep = 2  # so many of the newest checkpoints stay, beside the best one
    config.train.eval_every = 5_000  # steps, after which a checkpoint is saved too; 0: never
    config.train.eval_images = 500  # the first so many of data.eval_split; 0: all
    config.train.best_metric = 'PQ'  # the checkpoint with the largest stays
    config.train.silent_lines = 5  # log lines in a row, after the warm-up, that may relate no pair without a warning
    config.train.initialize_from = ''  # checkpoint of the same network that the weights come from
    config.train.only = ''  # 'relation': that head alone, from annotations; 'occlusion': that of a finished network

    config.expected = ml_collections.ConfigDict()  # the least that a run reaches, by metric; evaluation says so
    if variant == 'ablation':
        config.train.steps = 45_000
        config.optimizer.drops = (30_000, 40_000)
    if variant == 'bf16':
        config.model.dtype = 'bfloat16'
    if variant == 'paper':
        relate_as_in_the_paper(config)
    if variant == 'published':
        publish(config)
    return config


def relate_as_in_the_paper(config: ml_collections.ConfigDict) -> None:
    """Eq. (3) and (12) to the letter."""
    config.model.relation.nonlinear_geometry = False
    config.objective.relation_loss = 'overlap'
    config.objective.weights.relation = 1.0
    config.optimizer.relation_clip = 0.0


def publish(config: ml_collections.ConfigDict) -> None:
    """The choices of the authors' code where it differs from the paper, see docs/differences.md."""
    relate_as_in_the_paper(config)
    config.model.pyramid.global_average = True
    config.model.relation.update(form='published', appearance=False)
    # Caffe's backbones: the mean colour is subtracted, nothing is divided.
    config.model.pixel_mean = (122.7717, 115.9465, 102.9801)
    config.model.pixel_std = (1.0, 1.0, 1.0)
    config.objective.panoptic_head = 1
    config.objective.weights.semantic_boxes = 0.2 * config.objective.weights.semantic
    config.inference.update(resolve='sequential', vote=True)
    config.optimizer.update(nesterov=False, bias_rate=2.0, momentum_holds_rate=True)
    config.data.update(inclusive_boxes=True, matching='boxes')


def _model() -> dict:
    return {
        'backbone': {
            'stage_sizes': (3, 4, 6, 3),
            'block': 'bottleneck',
            'width': 64,
            'norm': 'frozen_batch',
            'strided_conv': 'conv1',  # as in Caffe; torchvision's weights want conv2
            'deformable_stages': (),
            'frozen_stages': 2,
        },
        'pyramid': {'features': 256, 'global_average': False},
        'rpn': {'features': 256},
        'box': {'features': 1024},
        'mask': {'features': 256, 'num_convs': 4},
        'semantic': {'features': (256, 128, 128)},
        'relation': {
            'category': True,
            'geometry': True,
            'appearance': True,
            'form': 'paper',
            'nonlinear_geometry': True,
            'rank': 256,
            'category_features': 128,
            'appearance_features': 128,
            'geometry_features': 128,
        },
        # Which of two instances lies on the other, by OCFusion, for inference.method = 'occlusion_head'.
        'occlusion': {
            'width': 0,  # no such head; published: 512
            'features': 1024,
            'side': 14,
            'pairs': 128,  # of an image
        },
        'pixel_mean': (123.675, 116.28, 103.53),
        'pixel_std': (58.395, 57.12, 57.375),
        'dtype': 'float32',
    }


def _objective() -> dict:
    return {
        'weights': {
            'rpn_score': 1.0,
            'rpn_box': 1.0,
            'box_class': 1.0,
            'box_delta': 1.0,
            'mask': 1.0,
            'semantic': 0.2,
            'semantic_boxes': 0.0,
            'panoptic': 0.1,
            'relation': 80.0,
            'occlusion': 1.0,
        },
        'rpn_batch_size': 256,
        'proposals_per_level': 2000,
        'proposals': 2000,
        'box_batch_size': 512,
        'foreground_fraction': 0.25,
        'panoptic_head': 2,
        'outside': 'zero',
        'void_fraction': 0.0,  # UPSNet: 0.3, with inference.void_channel; 0: no void channel
        'relation_loss': 'order_cross_entropy',
    }


def _optimizer() -> dict:
    return {
        'learning_rate': 0.01,  # for 8 images a step; in proportion to batch_size for others
        'momentum': 0.9,
        'nesterov': True,
        'momentum_holds_rate': False,  # published: True, without Nesterov
        'bias_rate': 1.0,  # factor on the learning rate of biases; published: 2.0
        'weight_decay': 1e-4,
        'gradient_clip': 0.0,  # norm of the gradient without the relation head's; 0 is off
        'relation_clip': 5.0,  # norm of the relation head's gradient; 0 is off
        'warmup_steps': 1500,
        'warmup_factor': 0.1,
        'drops': (120_000, 160_000),
        'drop_factor': 0.1,
        'accumulate': 1,  # parts that the batch of a device is computed in, one after the other, for one update
    }


def _inference() -> dict:
    return {
        # Or a rival: 'panoptic_head' (without relations), 'heuristics', 'label_prior', 'occlusion_head'.
        'method': 'relations',
        'label_prior': '',  # the file of the last one, see `python -m sognet_jax.programs.mine_label_prior`
        'free_fraction': 0.7,  # of heuristics and label prior: what has to be free of an instance's mask
        'occlusion_free_fraction': 0.5,  # the same, of the occlusion head
        'occlusion_largest_iou': 1.0,  # of boxes it is asked about: below 1, none of one object found twice
        'proposals_per_level': 1000,
        'proposals': 1000,
        'score_threshold': 0.6,
        'nms_threshold': 0.5,
        'max_detections': 100,
        'same_class_threshold': 0.3,
        'panoptic_head': 2,
        'balance': 2.0,
        'resolve': 'joint',
        'outside': 'zero',
        'void_channel': False,  # UPSNet: True
        'stuff_area_limit': 4096,
        'vote': False,
    }

r"""SOGNet with ResNet-50 on Cityscapes: the recipe of the paper (24,000 steps, panoptic loss 0.5).

How the order is learned is that of `configs/coco_r50.py`, from the painting order of the polygons, which the paper did
not use.

What the paper leaves to "following UPSNet": semantic weight 1.0, two deformable layers, 1024 x 2048 in testing, stuff
under 2048 pixels void. The paper reports PQ 60.0 on the validation set, from a COCO-trained network.

    python -m sognet_jax.programs.prepare cityscapes --source /path/to/cityscapes --data_dir data
    python train.py --config=configs/cityscapes_r50.py --workdir=runs/cityscapes \
        --config.data.source=/path/to/cityscapes

The shorter side of training images is drawn from 800 to 1024. Which instances overlap, and their order, comes from the
polygon files. This config has not been trained here.

Variants: `:paper` has Eq. (12) and a linear K; `:published` has the choices of the authors' code (docs/differences.md);
`:from_coco` has the three deformable layers of the COCO network besides, so that its weights fit:

    python -m sognet_jax.programs.convert --config=configs/cityscapes_r50.py:from_coco --source_categories=coco \
        --source=sognet_coco.pth --output=checkpoints/from_coco
"""

import ml_collections

from sognet_jax.configs import coco_r50

VARIANTS = ('', 'paper', 'published', 'from_coco')


def get_config(variant: str = '') -> ml_collections.ConfigDict:
    """The config; `variant` is one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise ValueError(f'configs/cityscapes_r50.py has the variants {VARIANTS}, not {variant!r}')
    config = coco_r50.get_config()
    config.categories = 'cityscapes'
    config.model.semantic.features = (128, 128)
    config.objective.weights.semantic = 1.0
    config.objective.weights.panoptic = 0.5
    config.inference.stuff_area_limit = 2048
    config.optimizer.drops = (18_000,)
    config.data.update(name='cityscapes', train_split='train', eval_split='val')
    config.data.update(image_size=(1024, 2048), short_side=1024, long_side=2048, train_short_sides=(800, 1024))
    config.train.steps = 24_000
    if variant == 'paper':
        coco_r50.relate_as_in_the_paper(config)
    if variant in ('published', 'from_coco'):
        coco_r50.publish(config)
        config.objective.weights.semantic_boxes = 0.0
    if variant == 'from_coco':
        config.model.semantic.features = (256, 128, 128)
    return config

"""SOGNet with the deformable ResNet-101 of the paper's Table 3 on COCO panoptic 2017.

    python train.py --config=configs/coco_r101_dcn.py --workdir=runs/coco_r101_dcn --config.data.source=/path/to/coco

The 3x3 convolutions of res3, res4 and res5 are deformable. The paper reports PQ 47.8, SQ 80.7, RQ 57.6 on test-dev.
This config has not been trained here.

Variants: those of `configs/coco_r50.py`.
"""

import ml_collections

from sognet_jax.configs import coco_r50


def get_config(variant: str = '') -> ml_collections.ConfigDict:
    """The config; the variants are those of `configs/coco_r50.py`."""
    config = coco_r50.get_config(variant)
    config.model.backbone.stage_sizes = (3, 4, 23, 3)
    config.model.backbone.deformable_stages = ('res3', 'res4', 'res5')
    return config

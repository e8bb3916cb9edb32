"""A network that trains in milliseconds."""

from sognet_jax.configs import shapes
from sognet_jax.inference.prediction import Inference


def tiny_config():
    """`configs/shapes.py` with as few channels and boxes as will do, at 64 x 64."""
    config = shapes.get_config()
    config.batch_size = 8
    config.model.backbone.width = 8
    config.model.pyramid.features = 8
    config.model.rpn.features = 8
    config.model.box.features = 16
    config.model.mask.features = 8
    config.model.mask.num_convs = 1
    config.model.semantic.features = (8,)
    config.model.relation.rank = 8
    config.objective.rpn_batch_size = 16
    config.objective.proposals_per_level = 20
    config.objective.proposals = 16
    config.objective.box_batch_size = 16
    config.inference.proposals_per_level = 20
    config.inference.proposals = 16
    config.inference.max_detections = 6
    config.data.image_size = (64, 64)
    config.data.short_side = 64
    config.data.long_side = 64
    config.data.max_instances = 4
    config.optimizer.warmup_steps = 0
    config.optimizer.learning_rate = 0.002
    return config


def inference_settings(**changes):
    """The `inference` section of `configs/shapes.py`, with changes."""
    return Inference(**dict(shapes.get_config().inference) | changes)

"""The published relation head and its stored parameters."""

from sognet_jax.models.relation_head import RelationHead
from tests.support.golden_files import SHIFT

PUBLISHED = RelationHead(num_things=80, appearance=False, form='published', rank=256, geometry_features=128)


def published_params(golden):
    return {
        'category_embedding': {'U': {'kernel': golden['weight_U'].T}, 'V': {'kernel': golden['weight_V'].T}},
        'K': {'kernel': golden['weight_W'][:, :, 0, 0].T},
        'fc': {'kernel': golden['weight_P'][:, :, 0, 0].T},
    }


def half_open(rois):
    return rois[:, 1:] + SHIFT

"""Class transfer, row by row: what has a counterpart by name is taken, the rest stays fresh."""

import numpy as np
import pytest

from sognet_jax.categories import CITYSCAPES, COCO, SHAPES
from sognet_jax.convert.transfer import base_name, has_classes, transfer_classes

FEATURES = 3
# Where COCO's panoptic categories carry an ending.
COCO_STUFF = {'building': 'building-other-merged', 'wall': 'wall-other-merged', 'fence': 'fence-merged',
              'sky': 'sky-other-merged', 'road': 'road'}  # fmt: skip
SAME_THINGS = {'person', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle'}


def heads(categories, seed):
    """Random arrays of everything that counts classes, in the network's layouts, and one that does not."""
    rng = np.random.default_rng(seed)
    things, classes = categories.num_things, categories.num_classes

    def random(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        'params': {
            'box_head': {
                'fc7': {'kernel': random(FEATURES, FEATURES)},
                'score': {'kernel': random(FEATURES, things + 1), 'bias': random(things + 1)},
                'box': {'kernel': random(FEATURES, 4 * things), 'bias': random(4 * things)},
            },
            'mask_head': {'kernel': random(things, FEATURES), 'bias': random(things)},
            'semantic_head': {'kernel': random(4, FEATURES, classes), 'bias': random(classes)},
            'relation_head': {
                'category_embedding': {'U': {'kernel': random(things, 5)}, 'V': {'kernel': random(things, 5)}},
                'fc': {'kernel': random(5, 1)},
            },
        },
        'batch_stats': {'resnet': {'norm1': {'mean': random(FEATURES)}}},
    }


def of_class(variables, categories, name):
    """The numbers of one class in the heads for things, and in the semantic head; None where it has none."""
    params = variables['params']
    things = [category.name for category in categories.things]
    semantic = [category.name for category in categories.all].index(name)
    of_semantics = [params['semantic_head']['kernel'][..., semantic], params['semantic_head']['bias'][semantic]]
    if name not in things:
        return None, of_semantics
    thing = things.index(name)
    offsets = slice(4 * thing, 4 * thing + 4)
    embedding = params['relation_head']['category_embedding']
    of_things = [
        params['box_head']['score']['kernel'][:, thing + 1], params['box_head']['score']['bias'][thing + 1],
        params['box_head']['box']['kernel'][:, offsets], params['box_head']['box']['bias'][offsets],
        params['mask_head']['kernel'][thing], params['mask_head']['bias'][thing],
        embedding['U']['kernel'][thing], embedding['V']['kernel'][thing],
    ]  # fmt: skip
    return of_things, of_semantics


def same(actual, expected):
    assert len(actual) == len(expected)
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope='module')
def transfer():
    """Trained, fresh and resulting variables, and the classes without a counterpart."""
    trained, fresh = heads(COCO, 0), heads(CITYSCAPES, 1)
    return trained, fresh, *transfer_classes(trained, fresh, COCO, CITYSCAPES)


@pytest.mark.parametrize('name', [category.name for category in CITYSCAPES.things])
def test_things(transfer, name):
    trained, fresh, result, without = transfer
    things, semantics = of_class(result, CITYSCAPES, name)
    matched = name in SAME_THINGS
    expected_things, expected_semantics = (
        of_class(trained, COCO, name) if matched else of_class(fresh, CITYSCAPES, name)
    )
    same(things, expected_things)
    same(semantics, expected_semantics)
    assert (name in without) == (not matched)


@pytest.mark.parametrize('name', [category.name for category in CITYSCAPES.stuff])
def test_stuff(transfer, name):
    trained, fresh, result, without = transfer
    _, semantics = of_class(result, CITYSCAPES, name)
    # A thing of COCO may be stuff here: its semantic row is as good.
    theirs = 'traffic light' if name == 'traffic light' else COCO_STUFF.get(name)
    expected = of_class(trained, COCO, theirs) if theirs else of_class(fresh, CITYSCAPES, name)
    same(semantics, expected[1])
    assert (name in without) == (theirs is None)


def test_the_background_and_all_that_counts_no_classes_are_kept(transfer):
    trained, _, result, _ = transfer
    for name in ('kernel', 'bias'):
        ours, theirs = (tree['params']['box_head']['score'][name][..., 0] for tree in (result, trained))
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        result['params']['box_head']['fc7']['kernel'], trained['params']['box_head']['fc7']['kernel']
    )
    np.testing.assert_array_equal(
        result['params']['relation_head']['fc']['kernel'], trained['params']['relation_head']['fc']['kernel']
    )
    np.testing.assert_array_equal(
        result['batch_stats']['resnet']['norm1']['mean'], trained['batch_stats']['resnet']['norm1']['mean']
    )


def test_the_arguments_stay_as_they_are():
    trained, fresh = heads(COCO, 0), heads(CITYSCAPES, 1)
    transfer_classes(trained, fresh, COCO, CITYSCAPES)
    for tree, copy in ((trained, heads(COCO, 0)), (fresh, heads(CITYSCAPES, 1))):
        same(of_class(tree, COCO if tree is trained else CITYSCAPES, 'person')[0],
             of_class(copy, COCO if tree is trained else CITYSCAPES, 'person')[0])  # fmt: skip


def test_what_the_source_lacks_is_left_out():
    trained, fresh = heads(COCO, 0), heads(CITYSCAPES, 1)
    del trained['params']['relation_head']
    result, _ = transfer_classes(trained, fresh, COCO, CITYSCAPES)
    assert 'relation_head' not in result['params']
    assert has_classes(result) and not has_classes({'params': {'resnet': {'conv1': {'kernel': np.zeros(3)}}}})


def test_a_thing_that_is_stuff_in_the_source_gets_the_semantic_row_alone():
    trained, fresh = heads(COCO, 0), heads(SHAPES, 1)
    result, without = transfer_classes(trained, fresh, COCO, SHAPES)
    things, semantics = of_class(result, SHAPES, 'rug')
    same(things, of_class(fresh, SHAPES, 'rug')[0])
    same(semantics, of_class(trained, COCO, 'rug-merged')[1])
    assert 'rug' in without and 'star' in without and 'grass' not in without


@pytest.mark.parametrize('categories', [COCO, CITYSCAPES, SHAPES], ids=lambda categories: categories.name)
def test_no_two_classes_of_a_set_have_one_base_name(categories):
    names = [base_name(category.name) for category in categories.all]
    assert len(set(names)) == len(names)


def test_base_names():
    assert base_name('sky-other-merged') == 'sky'
    assert base_name('door-stuff') == 'door'
    assert base_name('wall-brick') == 'wall-brick'
    assert base_name('water-other') == 'water'
    assert base_name('traffic light') == 'traffic light'

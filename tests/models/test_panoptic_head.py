"""The panoptic head and overlap resolving together, against the published training pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax import losses
from sognet_jax.models.panoptic_head import ABSENT, panoptic_logits, semantic_instance_logits, void_logits
from sognet_jax.ops.masks import paste_masks
from sognet_jax.ops.overlap import combine, resolve_overlaps
from tests.support import golden_files
from tests.support.golden_files import close
from tests.support.published_relations import PUBLISHED, half_open, published_params

pytestmark = pytest.mark.compiles

NUM_STUFF = 53
STRIDE = 4


def training_pass(golden, head):
    """A function of (mask logits, semantic logits, relation parameters) that gives the loss and what leads to it."""
    boxes = half_open(golden['gt_rois'])
    classes = golden['cls_idx'] - 1
    overlap = golden['relation_gt_full'] > 0
    takes_part = overlap.any(axis=1)
    labels = original_order(golden)

    def run(mask_logits, semantic, params):
        relations = PUBLISHED.apply({'params': params}, classes, boxes, None, takes_part)
        pasted, _ = paste_masks(mask_logits, boxes, semantic.shape[1:3], STRIDE)
        resolved = resolve_overlaps(pasted, relations)
        own = semantic_instance_logits(semantic, boxes[None], classes[None], num_stuff=NUM_STUFF, stride=STRIDE)
        instances = combine(own, resolved[None], head=head)
        logits = panoptic_logits(semantic[..., :NUM_STUFF], instances, jnp.ones((1, len(classes)), bool))
        loss = losses.panoptic_loss(logits[0], labels)
        relation_loss = losses.overlap_relation_loss(relations, overlap, takes_part)
        return loss, (relations, resolved, instances[0], relation_loss)

    return run


def order_of(golden):
    """Published slot -> our slot: the published code sorts instances by their number of partners."""
    return golden['new_index'] if len(golden['new_index']) else np.arange(len(golden['cls_idx']))


def original_order(golden):
    """The panoptic target with instances in the order in which they were given; ignored pixels -1."""
    labels = golden['panoptic_gt'][0].astype(np.int32)
    things = (labels >= NUM_STUFF) & (labels < 255)
    slots = np.where(things, order_of(golden)[np.where(things, labels - NUM_STUFF, 0)] + NUM_STUFF, labels)
    return np.where(labels == 255, -1, slots)


@golden_files.parametrize('panoptic_train_')
@pytest.mark.parametrize('head', [1, 2])
def test_logits_losses_and_gradients_are_the_published_ones(golden_path, head):
    golden = golden_files.load(golden_path)
    order, suffix = order_of(golden), f'_ph{head}'
    arguments = (golden['mask_score'][:, 0], np.moveaxis(golden['fcn_score'], 1, -1), published_params(golden))
    run = jax.jit(jax.value_and_grad(training_pass(golden, head), argnums=(0, 1, 2), has_aux=True))
    (loss, (relations, resolved, instances, relation_loss)), gradients = run(*arguments)

    close(relations[np.ix_(order, order)], padded(golden.get('O', np.zeros((0, 0))), len(order)))
    close(resolved[order], golden['resolved_mask_logits'][0])
    close(instances[order], golden['panoptic_inst_logits' + suffix][0])
    close(loss, golden['panoptic_loss' + suffix])
    close(relation_loss, golden['relation_loss'])
    of_masks, of_semantics, of_relations = gradients
    close(of_masks, golden['grad_mask_score' + suffix][:, 0], 1e-4)
    close(np.moveaxis(of_semantics, -1, 1)[:, ::12], golden['grad_fcn_score' + suffix], 1e-4)
    for name, stored in (('fc', 'grad_P'), ('K', 'grad_W')):
        # Where nobody overlaps, the relation head has no part in the loss, and nothing is stored.
        expected = golden.get(stored + suffix, np.zeros((1, 1, 1, 1)))[:, :, 0, 0]
        close(of_relations[name]['kernel'].T, np.broadcast_to(expected, of_relations[name]['kernel'].T.shape), 1e-4)


def padded(relations, count):
    """O of the instances that overlap, with zero rows and columns for the others."""
    full = np.zeros((count, count), np.float32)
    full[: len(relations), : len(relations)] = relations
    return full


def test_empty_slots_never_win_and_get_no_gradient():
    instances = jnp.full((1, 2, 3, 3), 5.0)
    valid = jnp.array([[True, False]])

    def loss(instances):
        logits = panoptic_logits(jnp.zeros((1, 3, 3, 4)), instances, valid)
        return jnp.sum(losses.cross_entropy(logits, jnp.zeros((1, 3, 3), int))), logits

    (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(instances)
    assert np.all(np.asarray(logits)[..., 5] == ABSENT) and np.all(np.argmax(logits, -1) == 4)
    assert np.all(np.asarray(gradient)[:, 1] == 0) and np.all(np.asarray(gradient)[:, 0] != 0)


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match='panoptic head'):
        combine(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), head=3)


def test_the_void_channel_is_what_things_have_more_than_instances():
    """Against a loop over pixels, with an image that has no instance."""
    rng = np.random.default_rng(0)
    things, semantic = rng.normal(size=(2, 5, 3, 4)), rng.normal(size=(2, 3, 3, 4))
    valid = np.array([[True, False, True], [False, False, False]])
    void = np.asarray(void_logits(things, semantic, valid))
    for image, y, x in np.ndindex(2, 3, 4):
        seen = [semantic[image, n, y, x] for n in range(3) if valid[image, n]]
        expected = max(things[image, :, y, x]) - (max(seen) if seen else 0)
        np.testing.assert_allclose(void[image, y, x], expected, rtol=1e-6)
    logits = panoptic_logits(jnp.zeros((2, 3, 4, 2)), jnp.asarray(semantic), jnp.asarray(valid), jnp.asarray(void))
    np.testing.assert_array_equal(logits[..., -1], void)
    assert logits.shape == (2, 3, 4, 2 + 3 + 1) and np.all(logits[1, ..., 2:5] == ABSENT)

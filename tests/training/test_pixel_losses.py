"""The losses by strips of rows equal the plain formulation, written out here from the paper, and need less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.ndimage import map_coordinates

from sognet_jax.contract import SEMANTIC_IGNORE
from sognet_jax.training.pixel_losses import ShownInstances, panoptic_losses, semantic_losses

pytestmark = pytest.mark.compiles

NUM_STUFF, NUM_THINGS, COUNT, MASK = 4, 3, 5, 28
HEIGHT, WIDTH = 13, 9
"""At 1/4 of the image: 13 rows are divided by no strip."""


@pytest.fixture(params=[HEIGHT, 5, 1])
def rows_per_strip(request, monkeypatch):
    """All rows in one strip; strips of 5, 5 and 3 rows; rows by themselves."""
    monkeypatch.setattr('sognet_jax.training.pixel_losses.strip_height', lambda *_: request.param)


def plain_semantic_loss(logits, labels):
    """One image at full resolution at once."""
    full = jax.image.resize(logits, (*labels.shape, logits.shape[-1]), 'linear', antialias=False)
    known = labels != SEMANTIC_IGNORE
    own = jnp.take_along_axis(jax.nn.log_softmax(full), jnp.where(known, labels, 0)[..., None], axis=-1)[..., 0]
    return -jnp.sum(own * known) / jnp.maximum(jnp.sum(known), 1)


def plain_paste(mask, box):
    """A mask in its box on the whole map: 0 outside, and where it is inside."""
    x1, y1, x2, y2 = (int(side / 4) for side in box - np.array([0, 0, 1, 1]))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    source = [(y + 0.5 - y1) * MASK / (y2 - y1 + 1) - 0.5, (x + 0.5 - x1) * MASK / (x2 - x1 + 1) - 0.5]
    inside = (y >= y1) & (y <= y2) & (x >= x1) & (x <= x2)
    return jnp.where(inside, map_coordinates(mask, source, order=1, mode='nearest'), 0), inside


def plain_panoptic_loss(masks, relations, semantic, scene, *, head, outside, void):
    """One image, instance by instance and pair by pair."""
    boxes, classes, shown, labels, num_pixels = scene
    pasted, inside = zip(*(plain_paste(masks[i], boxes[i]) for i in range(COUNT)), strict=True)
    present = [
        jax.nn.sigmoid(a) * (where if outside == 'absent' else 1) for a, where in zip(pasted, inside, strict=True)
    ]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    channels = [semantic[..., stuff] for stuff in range(NUM_STUFF)]
    seen = []
    for i in range(COUNT):
        covering = sum(relations[i, j] * present[j] for j in range(COUNT))
        resolved = pasted[i] - pasted[i] * present[i] * covering  # Eq. (8)
        x1, y1, x2, y2 = (boxes[i] - np.array([0, 0, 1, 1])) / 4
        crop = (y >= int(y1)) & (y <= round(float(y2))) & (x >= int(x1)) & (x <= round(float(x2)))
        own = semantic[..., NUM_STUFF + classes[i]] * crop
        combined = own + resolved if head == 1 else 2 * own * jax.nn.sigmoid(resolved) + resolved  # Eq. (9), (10)
        channels.append(combined if shown[i] else jnp.full_like(combined, -jnp.inf))
        seen += [own] * bool(shown[i])
    if void:
        of_instances = jnp.max(jnp.stack(seen), axis=0) if seen else 0
        channels.append(jnp.max(semantic[..., NUM_STUFF:], axis=-1) - of_instances)
    logits = jnp.stack(channels, axis=-1)
    own = jnp.take_along_axis(logits, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    errors = jax.nn.logsumexp(logits, axis=-1) - own
    return jnp.sum(jnp.where(labels >= 0, errors, 0)) / num_pixels


def scenes(void):
    """Predictions and truth of two images: one with two empty slots, one without instances."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, [2 * WIDTH, 2 * HEIGHT], (2, COUNT, 2))
    boxes = np.concatenate([low, low + rng.uniform(6, [2 * WIDTH, 2 * HEIGHT], (2, COUNT, 2))], -1).astype(np.float32)
    shown = np.array([[True, True, False, True, False], [False] * COUNT])
    relations = np.maximum(np.triu(rng.normal(size=(2, COUNT, COUNT)), 1), 0) * (shown[:, :, None] & shown[:, None])
    channels = [np.concatenate([range(NUM_STUFF), NUM_STUFF + np.flatnonzero(s), [-1]]) for s in shown]
    labels = np.stack([rng.choice(c, (HEIGHT, WIDTH)) for c in channels]).astype(np.int32)
    if void:
        labels[:, ::4] = NUM_STUFF + COUNT
    semantic = 2 * rng.normal(size=(2, HEIGHT, WIDTH, NUM_STUFF + NUM_THINGS))
    predictions = rng.normal(size=(2, COUNT, MASK, MASK)), relations, semantic
    truth = boxes, rng.integers(0, NUM_THINGS, (2, COUNT)), shown, labels, np.array([HEIGHT * WIDTH, 100])
    return tuple(jnp.array(x, jnp.float32) for x in predictions), truth


def assert_same(ours, plain):
    """Values, and gradients relative to their largest entry: sums are in another order, in float32."""
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert np.max(np.abs(other)) > 0
        np.testing.assert_allclose(one, other, atol=1e-5 * np.max(np.abs(other)), rtol=0)


WEIGHTS = np.array([0.7, 0.4])
"""Of the two images, so that what belongs to one cannot pass for the other's."""


def test_semantic_loss_and_gradient(rows_per_strip):
    rng = np.random.default_rng(1)
    logits = jnp.array(2 * rng.normal(size=(2, HEIGHT, WIDTH, 7)), jnp.float32)
    labels = rng.integers(0, 7, (2, 4 * HEIGHT, 4 * WIDTH)).astype(np.uint8)
    labels[0, 10:30, 5:] = SEMANTIC_IGNORE

    def ours(logits):
        values = semantic_losses(logits, jnp.array(labels))
        return jnp.sum(WEIGHTS * values), values

    def plain(logits):
        values = jnp.stack([plain_semantic_loss(logits[i], labels[i]) for i in range(2)])
        return jnp.sum(WEIGHTS * values), values

    differentiate = functools.partial(jax.value_and_grad, has_aux=True)
    assert_same(jax.jit(differentiate(ours))(logits), jax.jit(differentiate(plain))(logits))


def test_an_image_without_labels_has_no_semantic_loss(rows_per_strip):
    labels = jnp.full((1, 4 * HEIGHT, 4 * WIDTH), SEMANTIC_IGNORE, jnp.uint8)
    logits = jnp.ones((1, HEIGHT, WIDTH, 3))
    loss, gradient = jax.jit(jax.value_and_grad(lambda x: semantic_losses(x, labels)[0]))(logits)
    assert loss == 0 and np.all(np.asarray(gradient) == 0)


def test_labels_must_be_a_multiple_of_the_logits():
    with pytest.raises(ValueError, match='not a multiple'):
        semantic_losses(jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 16, 15), jnp.uint8))


@pytest.mark.parametrize(
    ('head', 'outside', 'void'), [(1, 'zero', False), (2, 'absent', False), (2, 'zero', True), (1, 'absent', True)]
)
def test_panoptic_loss_and_gradients(rows_per_strip, head, outside, void):
    predictions, (boxes, classes, shown, labels, num_pixels) = scenes(void)

    def ours(masks, relations, semantic):
        instances = ShownInstances(masks, *map(jnp.array, (boxes, classes, shown)), relations)
        values = panoptic_losses(
            instances, semantic, jnp.array(labels), num_pixels, num_stuff=NUM_STUFF, head=head, outside=outside,
            void_channel=void,
        )  # fmt: skip
        return jnp.sum(WEIGHTS * values), values

    differentiate = jax.value_and_grad(ours, argnums=(0, 1, 2), has_aux=True)
    assert_same(jax.jit(differentiate)(*predictions), differentiated_plain_loss(head, outside, void))


@functools.cache
def differentiated_plain_loss(head, outside, void):
    predictions, truth = scenes(void)

    def loss(*predictions):
        options = {'head': head, 'outside': outside, 'void': void}
        values = [plain_panoptic_loss(*(x[i] for x in predictions), [x[i] for x in truth], **options) for i in range(2)]
        return jnp.sum(WEIGHTS * jnp.stack(values)), jnp.stack(values)

    # Not jitted: small operations that compile once serve all the options.
    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*predictions)


def temporary_bytes(loss, *shapes):
    """What XLA's program of a gradient needs beside its inputs and outputs."""
    gradient = jax.grad(lambda *inputs: jnp.sum(loss(*inputs)))
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    return jax.jit(gradient).lower(*shapes).compile().memory_analysis().temp_size_in_bytes


@pytest.fixture
def bytes_per_strip(monkeypatch):
    monkeypatch.setattr('sognet_jax.ops.strips.STRIP_ELEMENTS', 1 << 20)
    return 4 << 20


def test_memory_of_the_semantic_loss_is_that_of_the_small_logits(bytes_per_strip):
    """Up-sampled logits are 16 times as large: what is left are copies of the logits at 1/4, and one strip."""
    height, width, classes = 128, 168, 133
    labels = jnp.zeros((1, 4 * height, 4 * width), jnp.uint8)
    needed = temporary_bytes(lambda logits: semantic_losses(logits, labels), (1, height, width, classes))
    small = 4 * height * width * classes
    assert needed < 5 * small + 5 * bytes_per_strip < 7 * small


def test_memory_of_the_panoptic_loss_hardly_grows_with_the_instances(bytes_per_strip):
    height, width = 200, 336

    def needed(count):
        def loss(masks, relations, semantic, boxes):
            zeros = jnp.zeros((1, count), jnp.int32)
            instances = ShownInstances(masks, boxes, zeros, zeros == 0, relations)
            return panoptic_losses(
                instances, semantic, jnp.zeros((1, height, width), jnp.int32), jnp.ones(1), num_stuff=4, head=2,
                outside='zero', void_channel=False,
            )  # fmt: skip

        return temporary_bytes(loss, (1, count, MASK, MASK), (1, count, count), (1, height, width, 8), (1, count, 4))

    all_of_one_instance = 4 * height * width
    growth = (needed(200) - needed(100)) / 100
    assert growth < all_of_one_instance / 2, 'the plain formulation holds several such arrays'

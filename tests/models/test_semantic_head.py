"""The semantic head of an image in a larger batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sognet_jax.models.semantic_head import SemanticHead

pytestmark = pytest.mark.compiles


def test_padding_shows_neither_in_the_logits_nor_inside_boxes():
    rng = np.random.default_rng(0)
    head = SemanticHead(5, (6, 4))
    levels = [jnp.array(rng.normal(size=(1, 16 // s, 24 // s, 3)), jnp.float32) for s in (1, 2, 4, 8)]
    padded = [
        jnp.pad(x, ((0, 0), (0, 16 // s), (0, 8 // s), (0, 0))) for x, s in zip(levels, (1, 2, 4, 8), strict=True)
    ]
    variables = jax.jit(head.init)(jax.random.key(0), levels)
    variables = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), variables)
    extent = jnp.array([[64, 96]])
    segment = jax.jit(head.apply)
    logits, larger = segment(variables, levels), segment(variables, padded, extent)
    np.testing.assert_allclose(larger[:, :16, :24], logits, atol=1e-5)
    # A box in the corner of the image, smaller than a pixel of the logits: most of its samples lie behind the corner.
    boxes = jnp.array([[[94.0, 62.0, 96.0, 64.0], [10.0, 10.0, 60.0, 50.0]]])
    pool = jax.jit(functools.partial(head.apply, method='inside_boxes'), static_argnums=3)
    expected, pooled = pool(variables, logits, boxes, 7), pool(variables, larger, boxes, 7, extent)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)

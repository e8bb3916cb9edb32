"""The losses of the network, as pure functions of the predictions and targets of ONE image (callers vmap).

Each returns a float32 scalar and is 0, with zero gradients, where there is nothing to compare. Normalisations are
those of the published code, which the paper does not spell out.
"""

import jax
import jax.numpy as jnp

from sognet_jax.contract import SEMANTIC_IGNORE

TEMPERATURE = 2.0
"""Of `order_cross_entropy_loss`."""


def rpn_score_loss(scores: jax.Array, labels: jax.Array, batch_size: int) -> jax.Array:
    """Binary cross entropy of the sampled anchors, summed and divided by the intended number of samples.

    Args:
        scores: `[A]` objectness logits.
        labels: `[A]` 1 object, 0 background, -1 not sampled (see `sognet_jax.targets.anchors`).
        batch_size: number of anchors that sampling aims at, which may be more than it finds.
    """
    errors = _binary_cross_entropy(scores, (labels > 0).astype(jnp.float32))
    return _masked_sum(errors, labels >= 0) / batch_size


def rpn_box_loss(deltas: jax.Array, targets: jax.Array, labels: jax.Array) -> jax.Array:
    """Smooth L1 (quadratic below 1/9) of the object anchors, summed and divided by the number of sampled anchors.

    Args:
        deltas: `[A, 4]` predicted offsets.
        targets: `[A, 4]` wanted offsets, read where the label is 1.
        labels: `[A]` 1 object, 0 background, -1 not sampled.
    """
    total = _masked_sum(smooth_l1(deltas - targets, sigma=3.0), (labels > 0)[:, None])
    return total / _at_least_one(labels >= 0)


def box_class_loss(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean cross entropy of the sampled boxes.

    Args:
        logits: `[R, T + 1]` class logits, 0 is background.
        labels: `[R]` 0 background, k + 1 thing class k.
        valid: `[R]` bool, filled slots.
    """
    return _masked_sum(cross_entropy(logits, labels), valid) / _at_least_one(valid)


def box_delta_loss(deltas: jax.Array, targets: jax.Array, labels: jax.Array, valid: jax.Array) -> jax.Array:
    """Smooth L1 of the foreground boxes' own class, summed and divided by the number of ALL sampled boxes.

    Args:
        deltas: `[R, T, 4]` class-specific predicted offsets.
        targets: `[R, 4]` wanted offsets of the box's own class, read where the label is foreground.
        labels: `[R]` 0 background, k + 1 thing class k.
        valid: `[R]` bool, filled slots.
    """
    # A one-hot contraction rather than a gather: its transpose is a plain product instead of a scatter.
    own_class = jax.nn.one_hot(labels - 1, deltas.shape[1], dtype=jnp.float32)
    own_deltas = jnp.einsum('rtc,rt->rc', deltas.astype(jnp.float32), own_class, precision='highest')
    foreground = valid & (labels > 0)
    return _masked_sum(smooth_l1(own_deltas - targets, sigma=1.0), foreground[:, None]) / _at_least_one(valid)


def mask_loss(logits: jax.Array, targets: jax.Array, foreground: jax.Array) -> jax.Array:
    """Binary cross entropy of the own class's mask, a mean over foreground boxes and mask pixels.

    Args:
        logits: `[F, M, M]` mask logits of each box's own class.
        targets: `[F, M, M]` in {0, 1}.
        foreground: `[F]` bool, the boxes that count.
    """
    errors = _binary_cross_entropy(logits, targets.astype(jnp.float32))
    pixels = logits.shape[-1] * logits.shape[-2]
    return _masked_sum(errors, foreground[:, None, None]) / (pixels * _at_least_one(foreground))


def semantic_loss(logits: jax.Array, labels: jax.Array, num_known: jax.Array | None = None) -> jax.Array:
    """Cross entropy, a mean over the pixels that have a label.

    Args:
        logits: `[..., S + T]` semantic logits.
        labels: `[...]` train ids, `SEMANTIC_IGNORE` where there is none.
        num_known: pixels of the image that have a label, where this is a part of it, whose share in the image's loss
            is wanted; None: those of `labels`.
    """
    known = labels != SEMANTIC_IGNORE
    denominator = _at_least_one(known) if num_known is None else jnp.maximum(num_known, 1)
    return _masked_sum(cross_entropy(logits, labels), known) / denominator


def semantic_box_loss(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> jax.Array:
    """Cross entropy inside ground truth boxes, a mean over ALL pixels of the boxes, also the ignored ones (published).

    Args:
        logits: `[N, M, M, S + T]` semantic logits pooled from the boxes.
        labels: `[N, M, M]` train ids, `SEMANTIC_IGNORE` where there is none.
        valid: `[N]` bool, the boxes that count.
    """
    known = (labels != SEMANTIC_IGNORE) & valid[:, None, None]
    pixels = labels.shape[-1] * labels.shape[-2]
    return _masked_sum(cross_entropy(logits, labels), known) / (pixels * _at_least_one(valid))


def panoptic_loss(logits: jax.Array, labels: jax.Array, num_pixels: jax.Array | None = None) -> jax.Array:
    """L_panoptic: cross entropy over stuff classes and instances, a mean over ALL pixels, also the ignored ones.

    That ignored pixels count in the denominator is not in the paper; it is what the published weight 0.1 goes with.

    Args:
        logits: `[..., S + N]` stuff classes first, then instances (then void, if it has a channel).
        labels: `[...]` the channel, 0..S-1 stuff, S + i instance i; negative: ignored.
        num_pixels: pixels of the image without the padding that only its batch has, also where `labels` are a part
            of the image, whose share in the image's loss is wanted; None: all of `labels`.
    """
    return _masked_sum(cross_entropy(logits, labels), labels >= 0) / (labels.size if num_pixels is None else num_pixels)


def overlap_relation_loss(relations: jax.Array, overlap: jax.Array, takes_part: jax.Array) -> jax.Array:
    """L_R, Eq. (12): mean squared difference of O + O^T and R over all pairs of participating instances.

    Args:
        relations: `[N, N]` overlap relations O.
        overlap: `[N, N]` bool R of Eq. (11), symmetric.
        takes_part: `[N]` bool, instances that overlap at least one other; their number is N_inst.
    """
    everywhere = jnp.ones_like(overlap, dtype=bool)
    return order_relation_loss(relations + relations.T, overlap, everywhere, takes_part)


def order_relation_loss(relations: jax.Array, order: jax.Array, decided: jax.Array, takes_part: jax.Array) -> jax.Array:
    """The weakly supervised L_R, Eq. (14): mean squared difference of O and R*.

    Args:
        relations: `[N, N]` overlap relations O.
        order: `[N, N]` bool R*, true where i is covered by j.
        decided: `[N, N]` bool, pairs whose order is known; the others have weight 0 (but count in N_inst^2).
        takes_part: `[N]` bool, instances that overlap at least one other; their number is N_inst.
    """
    errors = jnp.square(relations.astype(jnp.float32) - order.astype(jnp.float32))
    return _mean_over_pairs(errors, decided, takes_part)


def order_cross_entropy_loss(
    potential: jax.Array, order: jax.Array, decided: jax.Array, takes_part: jax.Array
) -> jax.Array:
    """Binary cross entropy of M and R*, in place of the squared error of O and R* in Eq. (14); not in the paper.

    Squared errors of O = relu(M - M^T) have next to no gradient where the sigmoids of M are saturated, so that a pair
    that is on the wrong side there stays there. The gradient here is the larger, the more wrong a logit is.

    Logits are divided by `TEMPERATURE` first. Where i is covered by j with chance p and j by i with 1 - p, the
    optimum has O_ij = (p^2 - (1 - p)^2) / (p^2 + (1 - p)^2) for a temperature of 2, which says 0.5 for p = 0.63; a
    temperature of 1 has O_ij = 2 p - 1, which says 0.5 for p = 0.75 only; Eq. (14) has O_ij = p.
    Sums and denominator are those of Eq. (14); the diagonal does not count.

    Args:
        potential: `[N, N]` logits of M.
        order, decided, takes_part: as in `order_relation_loss`.
    """
    errors = _binary_cross_entropy(potential / TEMPERATURE, order.astype(jnp.float32))
    off_diagonal = ~jnp.eye(len(takes_part), dtype=bool)
    return _mean_over_pairs(errors, decided & off_diagonal, takes_part)


def occlusion_loss(logits: jax.Array, lies_on: jax.Array, valid: jax.Array) -> jax.Array:
    """Binary cross entropy of the pairs that the occlusion head was asked, a mean.

    Args:
        logits, lies_on, valid: `[P]`: its answers, the right ones, and the pairs that count.
    """
    return _masked_sum(_binary_cross_entropy(logits, lies_on.astype(jnp.float32)), valid) / _at_least_one(valid)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy with integer labels along the last axis, `[..., C]` and `[...]` -> `[...]` float32.

    A label outside 0..C-1 is allowed; what it gives is finite and meant to be masked out.
    """
    logits = logits.astype(jnp.float32)
    # mode='clip' spares the bounds check; the gather measures twice as fast on a CPU as comparing with an iota.
    own = jnp.take_along_axis(logits, labels[..., None].astype(jnp.int32), axis=-1, mode='clip')[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - own


def smooth_l1(error: jax.Array, *, sigma: float) -> jax.Array:
    """Quadratic below |error| = 1 / sigma^2, linear above (Girshick 2015), element by element in float32."""
    magnitude = jnp.abs(error.astype(jnp.float32))
    square = sigma * sigma
    return jnp.where(magnitude < 1.0 / square, 0.5 * square * magnitude * magnitude, magnitude - 0.5 / square)


def _binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return jax.nn.softplus(logits.astype(jnp.float32)) - logits.astype(jnp.float32) * targets


def _mean_over_pairs(errors: jax.Array, counts: jax.Array, takes_part: jax.Array) -> jax.Array:
    """The sum of `[N, N]` errors of the pairs that count and take part, over N_inst^2."""
    pairs = counts & takes_part[:, None] & takes_part[None, :]
    return _masked_sum(errors, pairs) / jnp.square(_at_least_one(takes_part))


def _masked_sum(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Float32 sum of `values` where `mask`: a `where`, not a product, so that infinities outside do no harm."""
    return jnp.sum(jnp.where(mask, values, 0.0), dtype=jnp.float32)


def _at_least_one(mask: jax.Array) -> jax.Array:
    """Number of true entries as float32, 1 where there is none: a safe denominator."""
    return jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)

"""The relational embedding module and the overlap relation matrix: Eq. (1) to (5)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.choices import require_choice
from sognet_jax.ops.overlap import overlap_relations

FORMS = ('paper', 'published')


class Relations(NamedTuple):
    """What the relation head says of the instances of a batch."""

    takes_part: jax.Array  # `[B, N]` bool, instances that overlap another one
    potential: jax.Array  # `[B, N, N]` logits of M
    matrix: jax.Array  # `[B, N, N]` O, Eq. (5).


def relative_geometry(boxes: jax.Array) -> jax.Array:
    """Translation and scale invariant geometry of every ordered pair, the 4-vector of Eq. (3).

    Args:
        boxes: `[..., N, 4]` half-open x1, y1, x2, y2; x, y of Eq. (3) are box centres. Empty slots may be all zero.

    Returns:
        `[..., N, N, 4]`: (x_i - x_j) / w_j, (y_i - y_j) / h_j, log(w_i / w_j), log(h_i / h_j).
    """
    sizes = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    centers = boxes[..., :2] + 0.5 * sizes
    shift = (centers[..., :, None, :] - centers[..., None, :, :]) / sizes[..., None, :, :]
    scale = jnp.log(sizes)[..., :, None, :] - jnp.log(sizes)[..., None, :, :]
    return jnp.concatenate([shift, scale], axis=-1)


class PairEmbedding(nn.Module):
    """Low-rank outer product of a pair of instances, Eq. (1): relu(V^T c_i) * relu(U^T c_j), then P if `features`."""

    rank: int  # columns of U and V
    features: int | None  # columns of P (d_c or d_m); None leaves P out, as the published code does
    embedding_init: nn.initializers.Initializer = nn.initializers.lecun_normal()  # of U and V

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., N, D]` features of the instances -> `[..., N, N, features or rank]`, E_{i|j} at (i, j)."""
        subject = nn.relu(nn.Dense(self.rank, use_bias=False, kernel_init=self.embedding_init, name='V')(x))
        other = nn.relu(nn.Dense(self.rank, use_bias=False, kernel_init=self.embedding_init, name='U')(x))
        product = subject[..., :, None, :] * other[..., None, :, :]
        return product if self.features is None else nn.Dense(self.features, use_bias=False, name='P')(product)


class RelationHead(nn.Module):
    """Category, geometry and appearance of instance pairs -> the overlap relation matrix O.

    `form='paper'` is Eq. (1) to (5). `form='published'` is the authors' code: no projection P, a ReLU on the embedded
    geometry, no bias, no appearance, and E_{j|i} in place of E_{i|j}.
    """

    num_things: int  # T, the length of the one-hot category c_i
    # Which features of Eq. (4) are used.
    category: bool = True
    geometry: bool = True
    appearance: bool = True
    form: str = 'paper'
    nonlinear_geometry: bool = False  # a bias and a ReLU behind K of Eq. (3): a linear K cannot say "near"
    rank: int = 256  # columns of U and V in Eq. (1)
    # d_c, d_m, d_b
    category_features: int = 128
    appearance_features: int = 128
    geometry_features: int = 128

    @nn.compact
    def potential(self, classes: jax.Array, boxes: jax.Array, masks: jax.Array) -> jax.Array:
        """The logits of M, `[..., N, N]`: fc(E), before the sigmoid.

        Args:
            classes: `[..., N]` thing classes.
            boxes: `[..., N, 4]` half-open boxes in pixels of the network input.
            masks: `[..., N, 28, 28]` the mask of each instance inside its box: ground truth or probabilities.

        Raises:
            ValueError: `form` is unknown, no feature is switched on, or appearance is asked of the published form.
        """
        self._check()
        published = self.form == 'published'
        edges = []
        if self.appearance:
            flat = masks.reshape(*masks.shape[:-2], -1)
            edges.append(PairEmbedding(self.rank, self.appearance_features, name='appearance_embedding')(flat))
        if self.category:
            one_hot = jax.nn.one_hot(classes, self.num_things)
            features = None if published else self.category_features
            # Only one input is not 0, so that unit weights give unit outputs.
            embed = PairEmbedding(self.rank, features, nn.initializers.normal(1.0), name='category_embedding')
            edges.append(embed(one_hot))
        if self.geometry:
            project = nn.Dense(
                self.geometry_features,
                use_bias=self.nonlinear_geometry,
                # Spread biases: each unit has its own threshold on distance or size from the start.
                bias_init=nn.initializers.normal(0.5),
                name='K',
            )
            embedded = project(relative_geometry(boxes))
            edges.append(nn.relu(embedded) if published or self.nonlinear_geometry else embedded)
        logits = nn.Dense(1, use_bias=not published, name='fc')(jnp.concatenate(edges, axis=-1))[..., 0]
        return jnp.swapaxes(logits, -1, -2) if published else logits

    def __call__(self, classes: jax.Array, boxes: jax.Array, masks: jax.Array, takes_part: jax.Array) -> jax.Array:
        """The overlap relation matrix O `[..., N, N]`, Eq. (5): O_ij > 0 says that i is covered by j.

        Arguments are those of `potential`, and `[..., N]` bool, instances that overlap another one.
        """
        return overlap_relations(nn.sigmoid(self.potential(classes, boxes, masks)), takes_part)

    def _check(self) -> None:
        require_choice('model.relation.form', self.form, FORMS)
        if not (self.category or self.geometry or self.appearance):
            raise ValueError('model.relation needs at least one of category, geometry, appearance')
        if self.form == 'published' and self.appearance:
            raise ValueError("model.relation.form = 'published' has no appearance feature: set appearance = False")
        if self.form == 'published' and self.nonlinear_geometry:
            raise ValueError(
                "model.relation.nonlinear_geometry belongs to form = 'paper'; 'published' has a ReLU anyway"
            )

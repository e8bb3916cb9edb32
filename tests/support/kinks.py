"""Where a stored example lies so close to a kink of the network that rounding decides its gradient.

A ReLU at 0 and a bilinear sample on a whole pixel have two derivatives, one for either side. Rounding differs between
processors, between XLA's ways to multiply and from the authors' run, by some 1e-5 in the semantic head. What lies
nearer to a kink than that takes one side here and the other one there. Most such jumps are too small to be seen. Those
that a comparison of gradients would see are put on the side of the stored run here, so that the comparison holds on
every processor and its tolerance allows for rounding alone.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

ROUNDING = 2e-4
"""No value farther than this from its kink may be moved; the outputs' standard deviation is 2 to 6."""

SIDES = {
    'model_train_a_inputs': {
        # On the other side these move entries of the gradients of offsets by up to 4.2e-3 of the norm.
        ('conv1', 2): {(6, 9, 120): 1},
        ('conv3', 2): {(5, 7, 32): -1},
        # Each of the samples moves the gradient of its offset's bias by 2e-3 of the norm or more.
        ('conv1/offset', 0): {(16, 8, 6): -1},
        ('conv1/offset', 1): {(0, 27, 17): -1},
        ('conv1/offset', 2): {(8, 9, 3): -1, (5, 15, 2): 1},
        ('conv2/offset', 0): {(40, 6, 15): 1, (45, 2, 8): -1},
        ('conv2/offset', 1): {(21, 13, 4): 1},
        ('conv3/offset', 0): {(4, 33, 1): -1},
        ('conv3/offset', 1): {(8, 6, 10): 1, (5, 18, 15): -1},
        ('conv3/offset', 2): {(9, 6, 17): 1},
    },
}
"""Of an example: by layer of the semantic head and level above P2, the row, column and channel of an output of the
layer, and its side: 1 above its kink, -1 below. The kink of an offset is the nearest whole number, that of a
convolution's output, which a ReLU follows, is 0. With any one of them changed, stored sums or entries are missed by
more than they are now."""

HEAD = 'semantic_head'


class StoredSides:
    """Puts outputs of a network's layers on their stored sides, as `flax.linen.intercept_methods` calls it.

    It serves one trace of the network.
    """

    def __init__(self, example: str):
        """For the example of a `_inputs` file; one without known kinks is left as it is."""
        self.sides = SIDES.get(example, {})
        self.calls: dict[str, int] = {}
        self.distances: list[jax.Array] = []
        """From their kinks, before they are moved: as many arrays as `sides` has rows."""

    def __call__(self, call: Any, arguments: tuple, options: dict, context: nn.module.InterceptorContext) -> Any:
        """What the layer returns, the outputs next to a kink moved; their derivatives stay."""
        output = call(*arguments, **options)
        head, *rest = context.module.path or ('',)
        if head != HEAD or not rest or context.method_name != '__call__':
            return output
        layer = '/'.join(rest)
        level = self.calls[layer] = self.calls.get(layer, -1) + 1  # the head goes through the levels from P2 on
        sides = self.sides.get((layer, level))
        return output if sides is None else self._move(output, sides, layer.endswith('/offset'))

    def _move(self, output: jax.Array, sides: dict[tuple[int, int, int], int], is_offset: bool) -> jax.Array:
        places = (0, *np.array(list(sides)).T)
        values = jax.lax.stop_gradient(output[places])
        kinks = jnp.round(values) if is_offset else jnp.zeros_like(values)
        self.distances.append(jnp.abs(values - kinks))
        # Far enough that the sum of an offset and a position in the image does not round it away.
        moved = kinks + ROUNDING * np.array(list(sides.values()), np.float32)
        return output.at[places].add(moved - values)


def check_distances(distances: list[jax.Array], example: str) -> None:
    """Asserts that every stored side was applied, and that it moved nothing that rounding could not have moved."""
    assert len(distances) == len(SIDES.get(example, {}))
    for distance in distances:
        np.testing.assert_array_less(distance, ROUNDING)

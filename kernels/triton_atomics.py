"""Adding rows to memory that other programs add to as well."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import triton as plt

try:
    from jax._src import core, tree_util
    from jax._src.lib.mlir import ir
    from jax._src.pallas.triton import lowering, primitives
    from jax._src.state import primitives as state_primitives

    _ADD = primitives.AtomicOpType.ADD
    _abstract_eval, _lower = primitives._atomic_abstract_eval, primitives._atomic_lowering_rule
    _RELAXED: int | None = 1
except (ImportError, AttributeError):
    _RELAXED = None


def add_rows(
    ref: jax.Ref, rows: jax.Array, columns: jax.Array, values: jax.Array, mask: jax.Array, *, interpret: bool
) -> None:
    """`ref[rows[i], columns[j]] += values[i, j]` where the mask says so, as if one after the other.

    Args:
        ref: float32 table.
        rows: `[m]`, may repeat, here and in other programs.
        columns: `[n]`, all different.
        values: float32 `[m, n]`.
        mask: bool `[m, n]` or what widens to it.
        interpret: whether the kernel runs in Pallas's interpreter.
    """
    # Loads and stores widen their mask, atomics do not.
    mask = jnp.broadcast_to(mask, values.shape)
    if not interpret:
        _relaxed_add(ref, (rows[:, None], columns[None, :]), values, mask)
        return

    def add_row(index: jax.Array, carry: None) -> None:
        # The interpreter loses updates of repeated rows and has no masked atomics, but runs everything in turn.
        row, value, row_mask = (lax.dynamic_index_in_dim(x, index, keepdims=False) for x in (rows, values, mask))
        at = ref.at[row, columns]
        plt.store(at, plt.load(at, mask=row_mask, other=0) + value, mask=row_mask)

    lax.fori_loop(0, len(rows), add_row, None)


def _relaxed_add(ref: jax.Ref, index: tuple, values: jax.Array, mask: jax.Array) -> None:
    """`plt.atomic_add` without ordering of other memory accesses, which sums do not need.

    JAX asks for acquire-release, for which the GPU waits for all its stores and forgets its first-level cache at each
    of the additions, and it offers nothing else. Where its inner functions are not what they were, so be it.
    """
    if _RELAXED is None:
        plt.atomic_add(ref, index, values, mask=mask)
        return
    ref, transforms = state_primitives.get_ref_and_transforms(ref, index, 'relaxed_add')
    flat, tree = tree_util.tree_flatten((ref, transforms, values, mask))
    _relaxed_add_p.bind(*flat, args_tree=tree)


if _RELAXED is not None:
    _relaxed_add_p = core.Primitive('relaxed_add')

    @_relaxed_add_p.def_effectful_abstract_eval
    def _relaxed_add_abstract_eval(*avals, args_tree):
        return _abstract_eval(*avals, args_tree=args_tree, atomic_type=_ADD)

    @lowering.register_lowering(_relaxed_add_p)
    def _relaxed_add_lowering(ctx, *arguments, args_tree):
        result = _lower(ctx, *arguments, args_tree=args_tree, atomic_type=_ADD)
        result.owner.attributes['sem'] = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), _RELAXED)
        return result

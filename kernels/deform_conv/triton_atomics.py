"""Adding rows to memory that other programs add to as well."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

try:
    from jax._src import core, tree_util
    from jax._src.lib.mlir import ir
    from jax._src.pallas.triton import lowering, primitives
    from jax._src.state import primitives as state_primitives

    _ADD = primitives.AtomicOpType.ADD
    _abstract_eval, _lower = primitives._atomic_abstract_eval, primitives._atomic_lowering_rule
    _RELAXED = 1
except (ImportError, AttributeError):
    _RELAXED = None


def add_rows(
    ref: jax.Ref, rows: jax.Array, column: jax.Array, values: jax.Array, use: jax.Array, *, interpret: bool
) -> None:
    """`ref[rows[i], column:column + n] += values[i]` where `use[i]`, as if one after the other.

    Args:
        ref: float32 table.
        rows: `[m]`, within the table; may repeat, here and in other programs.
        column: scalar, the first column.
        values: float32 `[m, n]`, 0 where not `use`.
        use: `[m]` bool.
        interpret: whether the kernel runs in Pallas's interpreter.
    """
    if not interpret:
        columns = column + jnp.arange(values.shape[1], dtype=jnp.int32)
        # Loads and stores widen their mask, atomics do not.
        mask = jnp.broadcast_to(use[:, None], values.shape)
        _relaxed_add(ref, (rows[:, None], columns[None, :]), values, mask)
        return

    # The interpreter has no masked atomics and loses rows that repeat within one. What is not used is 0 already.
    def add_row(row: jax.Array, carry: None) -> None:
        plt.atomic_add(ref, (rows[row], pl.ds(column, values.shape[1])), values[row])

    lax.fori_loop(0, values.shape[0], add_row, None)


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

"""Several hosts as one program: starting them, and what they have to say to each other.

What they say to each other is a matter of all of them: each calls the same functions in the same order. On a single
host that costs nothing.
"""

import collections
import faulthandler
import functools
import itertools
import operator
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from sognet_jax.files import first_line

T = TypeVar('T')

SILENCE_SECONDS = 30
"""A host that has not been heard of for so long is taken for dead, which ends the others."""

PATIENCE_SECONDS = 24 * 3600
"""How long hosts wait for the first one, which may be preparing data."""

AXIS = 'batch'
"""Name of the axis of devices, in mapped functions."""

_BARRIERS = itertools.count()
"""A name that is new for each; hosts meet at them in the same order."""


def start(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins this process to the others; to be called before anything asks JAX for its devices.

    Args:
        coordinator_address: `HOST:PORT` of process 0, where it listens.
        num_processes, process_id: how many there are, and which one this is. What is None is found out from the
            cluster: SLURM, Cloud TPU, Open MPI and what else `jax.distributed.initialize` knows.

    Raises:
        ValueError: what is missing cannot be found out, or the others cannot be reached.
    """
    # Otherwise JAX takes SIGTERM for itself, and nobody hears of it.
    jax.config.update('jax_enable_preemption_service', False)
    # Where a host has died JAX aborts the others, whose own stacks say nothing of it.
    faulthandler.disable()
    try:
        jax.distributed.initialize(
            coordinator_address, num_processes, process_id, heartbeat_timeout_seconds=SILENCE_SECONDS
        )
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f'the hosts cannot be joined: {first_line(error)}') from error


def count() -> int:
    """How many hosts there are."""
    return jax.process_count()


def is_first() -> bool:
    """Whether this is the host that prints and writes."""
    return jax.process_index() == 0


def from_first(function: Callable[[], T]) -> T:
    """What `function` returns, or raises, on the first host; the others do not call it.

    `pickle` has to take its result. It may take hours.
    """
    if count() == 1:
        return function()
    outcome: tuple[bool, Any] = (False, None)
    failure: Exception | None = None
    if is_first():
        try:
            outcome = (True, function())
        except Exception as error:
            outcome, failure = (False, _portable(error)), error
    _wait_for_all()
    content = np.frombuffer(pickle.dumps(outcome), np.uint8) if is_first() else np.zeros(0, np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    content = content if is_first() else np.zeros(size, np.uint8)
    succeeded, value = pickle.loads(np.asarray(multihost_utils.broadcast_one_to_all(content)).tobytes())
    if succeeded:
        return value
    raise value if failure is None else failure


def first_alone_then_all(function: Callable[[], T]) -> T:
    """What `function` returns, which is done on the first host before the others begin: they find what it prepared."""
    made: list[T] = []
    from_first(lambda: made.append(function()))
    return made[0] if made else function()


def gather(value: T) -> list[T]:
    """The values of all hosts, which `pickle` has to take, in their order, on every host."""
    if count() == 1:
        return [value]
    _wait_for_all()
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(content))).ravel()
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes.tolist(), strict=True)]


def total(mine: T) -> T:
    """What the hosts have counted, each its share, as one: added up by `+=` in their order."""
    first, *others = gather(mine)
    return functools.reduce(operator.iadd, others, first)


def require_same(what: str, value: Any) -> None:
    """Ends all hosts where one has something else than the others, by a ValueError that names it, and the hosts."""
    values = gather(value)
    others = [host for host, other in enumerate(values) if other != values[0]]
    if others:
        raise ValueError(f'{what} differs between host 0 and host {", ".join(map(str, others))}')


def on_its_devices(tree: T) -> T:
    """Arrays whole on each device of this host, as mapped functions take and leave them: no call copies them again."""
    return jax.device_put(tree, _sharding(jax.sharding.PartitionSpec()))


def along_its_devices(tree: T) -> T:
    """Arrays `[local devices, ...]` cut over the devices of this host; the copies are under way when this returns."""
    return jax.device_put(tree, _sharding(jax.sharding.PartitionSpec(AXIS)))


def _sharding(spec: jax.sharding.PartitionSpec) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,)), spec)


class SharedFlag:
    """A flag that any host can raise, and that all see raised at the same step, without waiting for each other: it is
    read `delay` steps later, when devices have long passed it on.
    """

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._told: collections.deque[Any] = collections.deque()
        self._any = jax.pmap(lambda flag: jax.lax.pmax(flag, AXIS), axis_name=AXIS)

    def __call__(self, raised: bool) -> bool:
        """Passes on this host's flag; whether any host's was raised `delay` calls ago."""
        if count() == 1:
            return raised
        self._told.append(self._any(np.full(jax.local_device_count(), raised)))
        if len(self._told) <= self._delay:
            return False
        return bool(np.asarray(self._told.popleft())[0])


def end(message: str, status: int) -> NoReturn:
    """Ends this process. After an error (1) it waits for no other host, which may be waiting for it: they end, too.

    With another status, which all have agreed on, they wait for each other: JAX aborts those that are left behind.
    """
    if not jax.distributed.is_initialized():
        if status == 1:
            sys.exit(message)
        print(message, file=sys.stderr)
        sys.exit(status)
    print(f'host {jax.process_index()}: {message}', file=sys.stderr, flush=True)
    sys.stdout.flush()
    if status != 1:
        jax.distributed.shutdown()
    os._exit(status)


def _wait_for_all() -> None:
    """A barrier that does without devices, whose collectives give up after minutes."""
    barrier = ocp.multihost.get_barrier_sync_fn(processes=set(range(count())))
    barrier(key=f'sognet_jax_{next(_BARRIERS)}', timeout_ms=1000 * PATIENCE_SECONDS)


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same where it cannot be sent."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return ValueError(f'{error}')

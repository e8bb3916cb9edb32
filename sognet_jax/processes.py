"""A function of many items, in several processes."""

import collections
import concurrent.futures.process
import multiprocessing
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, prepare: Callable[[], None] | None = None
) -> Generator[Result, None, None]:
    """The function's results, in order. Few items are on their way at any time, and processes end with the iterator.

    The function is of a module, and `pickle` takes items and results. With 0 or 1 workers, this process does it; each
    other one first prepares itself.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context('spawn')  # a fork of a process with threads can hang
    with concurrent.futures.ProcessPoolExecutor(workers, context, prepare) as pool:
        running: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise OSError(f'one of {workers} worker processes was killed, perhaps for want of memory') from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

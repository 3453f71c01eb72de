"""The moving of objects: a bounded pool of workers, in bounded memory.  Floor: repo."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from casstore.errors import CasstoreError

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 16
"""Requests under way at once; S3 answers one in tens of milliseconds, whatever others it is answering."""

_PAUSE = 0.2
"""Seconds between two looks at what is under way."""

_AHEAD = 4
"""Jobs waiting for each worker, so that none is idle while results are taken in."""


def parallel(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Iterator[tuple[T, R | CasstoreError]]:
    """Yield each item with what `work` made of it, as they are done.

    A `CasstoreError` is a result, so that one bad object does not stop the others; anything else is raised,
    and what has not begun by then never does. While none is done, `meanwhile` is called a few times a second.
    """
    from concurrent.futures import ThreadPoolExecutor

    count = workers or WORKERS
    remaining = iter(items)
    with ThreadPoolExecutor(count, thread_name_prefix="casstore") as pool:
        running: dict[Future[R], T] = {}
        try:
            for item in remaining:
                running[pool.submit(work, item)] = item
                if len(running) >= count * _AHEAD:
                    yield from _settled(running, meanwhile)
            while running:
                yield from _settled(running, meanwhile)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def prefetched(items: Iterator[T], ahead: int = 1) -> Generator[T, None, None]:
    """Yield `items`, the next ones of which are made in a thread while the caller works on one.

    What makes them must not use the index: the caller may be in a transaction, and would wait for ever.

    Args:
        items: The items.
        ahead: How many are made before they are asked for. Where little work is in each, only several let the
            thread go on while the caller does, rather than by turns with it.
    """
    with _one_thread() as begin:
        coming = deque(begin(lambda: next(items, None)) for _ in range(ahead))
        while (item := coming.popleft()()) is not None:
            coming.append(begin(lambda: next(items, None)))
            yield item


@contextmanager
def _one_thread() -> Iterator[Callable[[Callable[[], T]], Callable[[], T]]]:
    """Yield what begins a call in a thread and returns what waits for its result.

    A process that is ending starts no thread: there, the call is made when its result is asked for.
    """
    try:
        from concurrent.futures import ThreadPoolExecutor  # first loaded here, it refuses at the end, too

        pool = ThreadPoolExecutor(1, thread_name_prefix="casstore-prefetch")
    except RuntimeError:
        yield lambda call: call
        return

    def begin(call: Callable[[], T]) -> Callable[[], T]:
        try:
            return pool.submit(call).result
        except RuntimeError:
            return call

    with pool:
        yield begin


def _settled(
    running: dict[Future[R], T], meanwhile: Callable[[], None] | None
) -> Iterator[tuple[T, R | CasstoreError]]:
    from concurrent.futures import FIRST_COMPLETED, wait

    pause = None if meanwhile is None else _PAUSE
    while not (done := wait(running, pause, FIRST_COMPLETED).done):
        if meanwhile is not None:
            meanwhile()
    for future in done:
        item = running.pop(future)
        error = future.exception()
        if error is not None and not isinstance(error, CasstoreError):
            raise error
        yield item, future.result() if error is None else error

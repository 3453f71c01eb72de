"""Requests of one transfer, several at a time, of which each must succeed.  Floor: backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def run_all(work: Callable[[T], R], items: Iterable[T], at_once: int) -> list[R]:
    """Return what `work` makes of the items, in the order in which that is done.

    The first error is raised when what is under way has ended; what has not begun by then never does.
    """
    from concurrent.futures import ThreadPoolExecutor, as_completed  # a process that ends cannot load it

    with ThreadPoolExecutor(at_once, thread_name_prefix="casstore-part") as pool:
        jobs = [pool.submit(work, item) for item in items]
        try:
            return [job.result() for job in as_completed(jobs)]
        finally:
            pool.shutdown(cancel_futures=True)

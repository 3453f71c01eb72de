"""Trying again: the only retry in the house, a wrapper around any backend.  Floor: backends.

It repeats what failed with a transient `BackendError`, after a pause that doubles and is drawn at random from
its whole length, so that many clients do not come back at once. What is under it never retries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from casstore.backends.base import Backend, Info, UploadsInParts
from casstore.errors import BackendError, ExistsError, NotFoundError

ATTEMPTS = 6
BASE_DELAY = 0.2
DELAY_CAP = 10.0

_T = TypeVar("_T")


class RetryingBackend:
    """A backend that repeats what failed for a passing reason.

    Args:
        inner: The backend that does the work.
        attempts: How often a request is tried, the first time included.
        base_delay: The longest pause before the second attempt, in seconds.
        delay_cap: The longest pause before any attempt, in seconds.
        sleep: What waits.
        uniform: What draws from 0 to 1.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        attempts: int = ATTEMPTS,
        base_delay: float = BASE_DELAY,
        delay_cap: float = DELAY_CAP,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._attempts = attempts
        self._base_delay = base_delay
        self._delay_cap = delay_cap
        self._sleep = sleep
        self._uniform = uniform

    @property
    def url(self) -> str:
        """Where the inner backend is."""
        return self._inner.url

    @property
    def part_size(self) -> int | None:
        """The inner backend's part size."""
        return self._inner.part_size

    def now(self) -> int:
        """Return the inner backend's time."""
        return self._inner.now()

    def requests(self) -> Mapping[str, int]:
        """Return the inner backend's requests, repeated ones included."""
        return self._inner.requests()

    def read(self, name: str) -> bytes:
        """Return all bytes of `name`; see `Backend.read`."""
        return self._repeat(lambda: self._inner.read(name))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from `start`; see `Backend.read_range`."""
        return self._repeat(lambda: self._inner.read_range(name, start, length))

    def download(self, name: str, path: Path) -> None:
        """Copy `name` into the local file `path`; see `Backend.download`."""
        self._repeat(lambda: self._inner.download(name, path))

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> None:
        """Make `name` hold `content`; see `Backend.write`."""
        if exclusive:
            self._write_new(name, content)
        else:
            self._repeat(lambda: self._inner.write(name, content))

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:
        """Make `name` hold the content of `path`; see `Backend.upload`."""
        if isinstance(self._inner, UploadsInParts):
            self._inner.upload_each(path, name, self._repeat)
        else:
            self._repeat(lambda: self._inner.upload(path, name, consume=consume))

    def delete(self, name: str) -> None:
        """Remove `name`; see `Backend.delete`."""
        self._repeat(lambda: self._inner.delete(name))

    def list(self, folder: str) -> Iterator[Info]:
        """Yield every name below `folder`, each once; see `Backend.list`."""
        seen: set[str] = set()
        for attempt in range(1, self._attempts + 1):
            try:
                for info in self._inner.list(folder):
                    if info.name not in seen:
                        seen.add(info.name)
                        yield info
            except BackendError as error:
                self._pause(error, attempt)
            else:
                return

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()

    def _write_new(self, name: str, content: bytes) -> None:
        """Write exclusively; a name found taken after a lost answer may be our own first attempt."""
        failed = False

        def attempt() -> None:
            nonlocal failed
            try:
                self._inner.write(name, content, exclusive=True)
            except ExistsError:
                if not failed or not self._holds(name, content):
                    raise
            except BackendError:
                failed = True
                raise

        self._repeat(attempt)

    def _holds(self, name: str, content: bytes) -> bool:
        try:
            return self._inner.read(name) == content
        except NotFoundError:
            return False

    def _repeat(self, request: Callable[[], _T]) -> _T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return request()
            except BackendError as error:
                self._pause(error, attempt)

    def _pause(self, error: BackendError, attempt: int) -> None:
        """Wait before the next attempt, or raise `error` where none is due.

        Raises:
            BackendError: It is permanent, or this was the last attempt.
        """
        if not error.transient or attempt >= self._attempts:
            raise error
        longest = min(self._delay_cap, self._base_delay * 2 ** (attempt - 1))
        self._sleep(self._uniform() * longest)

"""Backends that stand around any other: one writes down, one fails on order, one dies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from casstore.backends.base import Backend, Info
from casstore.errors import BackendError

_T = TypeVar("_T")

WRITES = frozenset({"write", "upload", "delete"})
"""The operations that change a store."""


class Crash(BaseException):
    """The process ends here: no handler for errors may catch it."""


class WrappedBackend:
    """Passes every call on, through one place that a subclass overrides.

    Args:
        inner: The backend that does the work.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def around(self, operation: str, name: str, run: Callable[[], _T]) -> _T:
        """Do `operation` on `name` by calling `run`."""
        return run()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def part_size(self) -> int | None:
        return self.inner.part_size

    def now(self) -> int:
        return self.inner.now()

    def requests(self) -> Mapping[str, int]:
        return self.inner.requests()

    def read(self, name: str) -> bytes:
        return self.around("read", name, lambda: self.inner.read(name))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        return self.around("read_range", name, lambda: self.inner.read_range(name, start, length))

    def download(self, name: str, path: Path) -> None:
        self.around("download", name, lambda: self.inner.download(name, path))

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> None:
        self.around("write", name, lambda: self.inner.write(name, content, exclusive=exclusive))

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:
        self.around("upload", name, lambda: self.inner.upload(path, name, consume=consume))

    def delete(self, name: str) -> None:
        self.around("delete", name, lambda: self.inner.delete(name))

    def list(self, folder: str) -> Iterator[Info]:
        yield from self.around("list", folder, lambda: self.inner.list(folder))

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True, slots=True)
class Call:
    """One call to a backend: ``read``, ``read_range``, ``download``, ``write``, ``upload``, ..."""

    operation: str
    name: str


class RecordingBackend(WrappedBackend):
    """Writes down every call, in the order in which they began.

    Attributes:
        calls: All of them; clear it as you like.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.calls: list[Call] = []

    def around(self, operation: str, name: str, run: Callable[[], _T]) -> _T:
        self.calls.append(Call(operation, name))
        return run()

    def names(self, operation: str) -> list[str]:
        """Return the names that `operation` was called with."""
        return [call.name for call in self.calls if call.operation == operation]


@dataclass(slots=True)
class _Order:
    operation: str
    error: BaseException
    first: int
    last: int
    lose_answer: bool
    seen: int = field(default=0)


class FaultyBackend(WrappedBackend):
    """Fails on order, spoils what is read on order, and can fill up."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._orders: list[_Order] = []
        self._spoil: dict[str, Callable[[bytes], bytes]] = {}
        self._room: int | None = None

    def fail(
        self,
        operation: str,
        *,
        error: BaseException | None = None,
        nth: int = 1,
        times: int = 1,
        transient: bool = False,
        lose_answer: bool = False,
    ) -> None:
        """Make calls `nth` to ``nth + times - 1`` of `operation`, counted from now, raise.

        Args:
            operation: ``read``, ``write``, ...
            error: What is raised; a `BackendError` if not given.
            nth: The first call that fails.
            times: How many fail.
            transient: What the `BackendError` says of itself.
            lose_answer: Do the work, and then raise.
        """
        error = error or BackendError(f"ordered to fail: {operation}", transient=transient)
        self._orders.append(_Order(operation, error, nth, nth + times - 1, lose_answer))

    def corrupt(self, name: str) -> None:
        """Flip one bit in the middle of everything read from `name`."""
        self._spoil[name] = _flip

    def truncate(self, name: str) -> None:
        """Cut everything read whole from `name` in half."""
        self._spoil[name] = lambda content: content[: len(content) // 2]

    def fill_up(self, room: int) -> None:
        """Refuse writes once `room` more bytes were written."""
        self._room = room

    def heal(self) -> None:
        """Forget all orders."""
        self._orders.clear()
        self._spoil.clear()
        self._room = None

    def around(self, operation: str, name: str, run: Callable[[], _T]) -> _T:
        order = self._due(operation)
        if order is None:
            return run()
        if order.lose_answer:
            run()
        raise order.error

    def read(self, name: str) -> bytes:
        return self._spoiled(name, super().read(name))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        return self._spoiled(name, super().read_range(name, start, length))

    def download(self, name: str, path: Path) -> None:
        super().download(name, path)
        if name in self._spoil:
            path.write_bytes(self._spoiled(name, path.read_bytes()))

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> None:
        self._take_room(len(content))
        super().write(name, content, exclusive=exclusive)

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:
        self._take_room(path.stat().st_size)
        super().upload(path, name, consume=consume)

    def _due(self, operation: str) -> _Order | None:
        due = None
        with self._lock:
            for order in self._orders:
                if order.operation == operation:
                    order.seen += 1
                    if due is None and order.first <= order.seen <= order.last:
                        due = order
        return due

    def _spoiled(self, name: str, content: bytes) -> bytes:
        return self._spoil[name](content) if name in self._spoil else content

    def _take_room(self, size: int) -> None:
        with self._lock:
            if self._room is None:
                return
            if size > self._room:
                raise BackendError("cannot write: the disk is full: free some space")
            self._room -= size


class CrashingBackend(WrappedBackend):
    """Lets some writes happen, and then the process is dead: every later call raises `Crash`.

    Args:
        inner: The backend that does the work.
        after: How many writes, uploads and deletions happen before the crash.
        torn: Where given, the folder of `inner`: the write that crashes leaves half a temporary file there.
    """

    def __init__(self, inner: Backend, after: int, *, torn: Path | None = None) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._left = after
        self._torn = torn
        self.crashed = False
        self.done: Counter[str] = Counter()

    def around(self, operation: str, name: str, run: Callable[[], _T]) -> _T:
        with self._lock:
            if self.crashed:
                raise Crash
            if operation in WRITES:
                if not self._left:
                    self.crashed = True
                    raise Crash(f"{operation} {name}")
                self._left -= 1
                self.done[operation] += 1
        return run()

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> None:
        try:
            super().write(name, content, exclusive=exclusive)
        except Crash as crash:
            self._leave_torn(crash, name, content)
            raise

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:
        try:
            super().upload(path, name, consume=consume)
        except Crash as crash:
            self._leave_torn(crash, name, path.read_bytes())
            raise

    def _leave_torn(self, crash: Crash, name: str, content: bytes) -> None:
        if self._torn is None or not crash.args:
            return
        final = self._torn / name
        final.parent.mkdir(parents=True, exist_ok=True)
        (final.parent / f".{final.name}.0123456789abcdef.tmp").write_bytes(content[: len(content) // 2])


def _flip(content: bytes) -> bytes:
    if not content:
        return content
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]

"""What a backend is: bytes by name.  Floor: backends.

A name is relative, with ``/`` between its parts (``objects/a/b/<digest>.zst``), and always spelled by
`casstore.store.layout`. A backend knows nothing of digests, compression or records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Info:
    """One stored name, as a listing tells it.

    Attributes:
        name: The name, relative to the backend's root.
        size: Stored bytes.
        modified: When it was last written, in milliseconds since the Unix epoch by the clock of the storage;
            None where that does not tell.
    """

    name: str
    size: int
    modified: int | None = None


class Backend(Protocol):
    """Bytes by name.

    Writes are atomic: a reader sees the whole content or nothing, also after a crash. Every method may raise
    `BackendError`; a missing name is `NotFoundError` where a method reads. All methods may be called from
    several threads, and from a forked child.
    """

    @property
    def url(self) -> str:
        """Where this is, without credentials, for people to read."""

    @property
    def part_size(self) -> int | None:
        """Bytes of the parts in which twice as much and more is sent and fetched; None where it never is."""

    def now(self) -> int:
        """Return the time in milliseconds since the Unix epoch, by the clock of the storage.

        For S3, the server's, as its last answer told it; elsewhere, this machine's.
        """

    def requests(self) -> Mapping[str, int]:
        """Requests sent so far by verb: ``GET``, ``PUT``, ``LIST``, ``HEAD``, ``DELETE``, ``POST``.

        For S3, HTTP requests as sent, retries included; elsewhere, one for each operation.
        """

    def read(self, name: str) -> bytes:
        """Return all bytes of `name` in one request.

        Raises:
            NotFoundError: There is no such name.
        """

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes of `name` from offset `start`, in one request.

        Raises:
            NotFoundError: There is no such name.
            IntegrityError: The content ends before ``start + length``.
        """

    def download(self, name: str, path: Path) -> None:
        """Copy `name` into the local file `path`, replacing it, in bounded memory.

        `path` is not written atomically: it is the caller's temporary file.

        Raises:
            NotFoundError: There is no such name.
        """

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> None:
        """Make `name` hold `content`, replacing what it held.

        Args:
            name: The name to write.
            content: All of its bytes.
            exclusive: Refuse to replace; of several concurrent exclusive writers exactly one succeeds.

        Raises:
            ExistsError: `exclusive` and the name is taken.
        """

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:
        """Make `name` hold the content of the local file `path`, in bounded memory.

        In parts, where there are any (see `part_size`), an upload that ended early is taken up by the next.

        Args:
            path: The file to read.
            name: The name to write.
            consume: The caller needs the file no more, so that a local backend may rename it.
        """

    def delete(self, name: str) -> None:
        """Remove `name`; a name that is not there is no error."""

    def list(self, folder: str) -> Iterator[Info]:
        """Yield every name below `folder` (``manifest``), at any depth, in no promised order.

        A folder that is not there is empty. Temporary files of unfinished writes are not listed.
        """

    def close(self) -> None:
        """Release connections and descriptors; the backend may not be used after."""


class Repeat(Protocol):
    """Runs a request, and runs it again where it failed for a passing reason."""

    def __call__(self, request: Callable[[], _T]) -> _T:
        """Return what `request` returned at last."""


@runtime_checkable
class UploadsInParts(Protocol):
    """What a backend also is whose uploads may take many requests."""

    def upload_each(self, path: Path, name: str, repeat: Repeat) -> None:
        """Do what `Backend.upload` does, with `repeat` for each request, so that only that is sent again."""

"""A generated object of any length through a store and a remote, and the memory that took.

``python -m tests.crash.large_file FOLDER BYTES [URL]`` prints the peak, in bytes. The remote is a folder,
or with URL that one; then the object does not compress.
"""

from __future__ import annotations

import hashlib
import io
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from casstore.repo.repository import Repository

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STATUS = Path("/proc/self/status")
_PIECE = 1024 * 1024
_FRESH = 64 * 1024
"""Bytes of each MiB that do not compress, if it is to compress: the rest repeats them."""


class Generated(io.RawIOBase):
    """A stream of `size` bytes, always the same ones, which no memory or disk holds.

    Args:
        size: How many.
        fresh: How many of each MiB do not compress.
    """

    def __init__(self, size: int, fresh: int) -> None:
        super().__init__()
        self._left = size
        self._fresh = fresh
        self._random = random.Random(size)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Give what is left of a piece, or the next one."""
        if not self._rest:
            piece = self._random.randbytes(self._fresh) * (_PIECE // self._fresh)
            self._rest = memoryview(piece)[: self._left]
        target = memoryview(buffer)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._left -= count
        return count


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is in a file."""
    while piece := file.read(_PIECE):
        yield piece


def digest(content: Iterable[bytes]) -> str:
    """Return the SHA-256 of a stream."""
    whole = hashlib.sha256()
    for piece in content:
        whole.update(piece)
    return whole.hexdigest()


def main(folder: Path, size: int, url: str | None = None) -> None:
    """Put it, read it, push it, pull it, and write it to a file."""
    remote = url or (folder / "remote").as_uri()
    fresh = _PIECE if url else _FRESH
    expected = digest(pieces(io.BufferedReader(Generated(size, fresh))))
    with Repository.open(folder / "one") as one:
        found = one.put(io.BufferedReader(Generated(size, fresh)))
        demand(found == expected, "it went in as something else")
        demand(digest(one.stream(found)) == expected, "it came out as something else")
        report = one.push(remote)
        demand(not report.failures and report.objects == 1, "it was not pushed")
    with Repository.open(folder / "two", max_size=2 * size) as two:
        report = two.pull(remote)
        demand(not report.failures and report.objects == 1, "it was not pulled")
        middle = two.get_range(found, size // 2, 10)
        out = folder / "out"
        two.export(found, out)
    with out.open("rb") as file:
        demand(digest(pieces(file)) == expected, "it was exported as something else")
        file.seek(size // 2)
        demand(file.read(10) == middle, "its middle is something else")
    sys.stdout.write(f"{peak_here()}\n")


def peak_here() -> int:
    """Return the most memory this program took, in bytes; `getrusage` would count the one that started it."""
    status = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def demand(holds: bool, otherwise: str) -> None:
    """End this program with a word where something does not hold."""
    if not holds:
        sys.exit(otherwise)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])

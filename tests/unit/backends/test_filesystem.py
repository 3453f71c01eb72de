"""Any fsspec filesystem: its errors as ours, and writing by rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from casstore.backends.filesystem import FsspecBackend
from casstore.errors import BackendError, CasstoreError, ExistsError, NotFoundError


class StatusError(Exception):
    """What a driver for an HTTP service raises."""

    def __init__(self, attribute: str, status: int) -> None:
        super().__init__(f"status {status}")
        setattr(self, attribute, status)


class Failing(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """A filesystem that raises one error whatever it is asked."""

    cachable = False

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def cat_file(self, path: str, **_: object) -> bytes:
        """Raise the error."""
        raise self.error

    def pipe_file(self, path: str, value: bytes, **_: object) -> None:
        """Raise the error."""
        raise self.error


def _failing(error: Exception) -> FsspecBackend:
    return FsspecBackend(lambda: Failing(error), "root", url="test://root", atomic_put=True)


@pytest.mark.parametrize(
    ("error", "operation", "kind", "transient"),
    [
        (FileNotFoundError("gone"), "read", NotFoundError, None),
        (FileNotFoundError("no share"), "write", BackendError, False),
        (StatusError("status", 404), "read", NotFoundError, None),
        (StatusError("code", 404), "write", BackendError, False),
        (StatusError("status_code", 412), "write", ExistsError, False),
        (StatusError("code", 409), "write", BackendError, True),
        (StatusError("status", 429), "read", BackendError, True),
        (StatusError("status_code", 503), "read", BackendError, True),
        (StatusError("status", 403), "read", BackendError, False),
        (StatusError("status", 501), "read", BackendError, False),
        (TimeoutError(), "read", BackendError, True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "read", BackendError, True),
        (PermissionError("not yours"), "read", BackendError, False),
        (NotImplementedError(), "write", BackendError, False),
        (RuntimeError("driver's own"), "read", BackendError, False),
    ],
)
def test_errors_are_mapped_by_type_and_code(
    error: Exception,
    operation: str,
    kind: type[CasstoreError],
    transient: bool | None,
) -> None:
    """Whatever a driver raises, a caller sees one of ours, with the original as its cause."""
    backend = _failing(error)
    operations: dict[str, Callable[[], object]] = {
        "read": lambda: backend.read("one"),
        "write": lambda: backend.write("one", b"x"),
    }
    with pytest.raises(CasstoreError) as caught:
        operations[operation]()
    assert type(caught.value) is kind
    assert getattr(caught.value, "transient", None) is transient
    assert caught.value.__cause__ is error


def test_read_only_storage_says_so() -> None:
    """A driver that cannot write is told from one that failed."""
    with pytest.raises(BackendError, match="this kind of storage cannot write"):
        _failing(NotImplementedError()).write("one", b"x")


def test_connecting_is_inside_the_seam() -> None:
    """A driver that fails on connecting fails like any request."""

    def refuse() -> AbstractFileSystem:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    backend = FsspecBackend(refuse, "root", url="test://root", atomic_put=True)
    with pytest.raises(BackendError) as caught:
        backend.read("one")
    assert caught.value.transient


def test_failed_rename_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last step fails, the old content stays and the temporary file goes."""
    folder.mkdir()
    backend = FsspecBackend(
        lambda: DirFileSystem(str(folder), LocalFileSystem()), "root", url="test://root", atomic_put=False
    )
    backend.write("one", b"old")
    (folder / "source").write_bytes(b"new")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DirFileSystem, "mv", refuse)
    with pytest.raises(BackendError, match="disk is full"):
        backend.write("one", b"new")
    with pytest.raises(BackendError, match="disk is full"):
        backend.upload(folder / "source", "one")
    assert [path.name for path in (folder / "root").iterdir()] == ["one"]
    assert backend.read("one") == b"old"

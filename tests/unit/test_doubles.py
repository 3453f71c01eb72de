"""The storage doubles do what tests built on them take for granted."""

from __future__ import annotations

from pathlib import Path

import pytest

from casstore.backends.local import LocalBackend
from casstore.errors import BackendError, NotFoundError
from tests.doubles import Call, Crash, CrashingBackend, FaultyBackend, RecordingBackend


@pytest.fixture
def local(folder: Path) -> LocalBackend:
    """Return a local store that holds one name."""
    backend = LocalBackend(folder)
    backend.write("one", b"0123456789")
    return backend


def test_recording_keeps_the_order(local: LocalBackend, tmp_path: Path) -> None:
    """Each call is written down, failed ones too."""
    backend = RecordingBackend(local)
    backend.read("one")
    with pytest.raises(NotFoundError):
        backend.read("none")
    backend.upload(tmp_path / "store/one", "two")
    list(backend.list("m"))
    assert backend.calls == [
        Call("read", "one"),
        Call("read", "none"),
        Call("upload", "two"),
        Call("list", "m"),
    ]
    assert backend.names("read") == ["one", "none"]


def test_faults_come_when_ordered(local: LocalBackend) -> None:
    """The second and third read fail, and no other."""
    backend = FaultyBackend(local)
    backend.fail("read", nth=2, times=2, transient=True)
    backend.read("one")
    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            backend.read("one")
        assert caught.value.transient
    assert backend.read("one") == b"0123456789"


def test_reads_can_be_spoiled(local: LocalBackend, tmp_path: Path) -> None:
    """Every way of reading gives the spoiled content, until healed."""
    backend = FaultyBackend(local)
    backend.corrupt("one")
    assert backend.read("one") == b"0123446789"
    assert backend.read_range("one", 4, 3) == b"446"
    backend.download("one", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"0123446789"
    backend.truncate("one")
    assert backend.read("one") == b"01234"
    backend.heal()
    assert backend.read("one") == b"0123456789"


def test_store_can_fill_up(local: LocalBackend) -> None:
    """Writes fit until the room is used; what does not fit is not written."""
    backend = FaultyBackend(local)
    backend.fill_up(5)
    backend.write("two", b"12345")
    with pytest.raises(BackendError, match="disk is full"):
        backend.write("three", b"6")
    with pytest.raises(NotFoundError):
        backend.read("three")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_crash_comes_after_some_writes(local: LocalBackend, folder: Path, after: int) -> None:
    """The crashing write is not done, leaves half a temporary file, and nothing works afterwards."""
    backend = CrashingBackend(local, after, torn=folder)
    for number in range(after):
        backend.write(f"m/{number}", b"content")
    with pytest.raises(Crash):
        backend.write("m/last", b"content")
    with pytest.raises(Crash):
        backend.read("one")
    assert {info.name for info in local.list("m")} == {f"m/{number}" for number in range(after)}
    assert [path.read_bytes() for path in (folder / "m").glob(".*.tmp")] == [b"con"]

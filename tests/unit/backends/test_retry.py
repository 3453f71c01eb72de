"""The one retry: what it repeats, how long it waits, and what it never does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casstore.backends.base import Info
from casstore.backends.local import LocalBackend
from casstore.backends.retry import RetryingBackend
from casstore.errors import BackendError, ExistsError, IntegrityError, NotFoundError
from tests.doubles import Call, FaultyBackend, RecordingBackend


class Stack:
    """A retrying backend over a recording, a faulty and a local one; it draws 0.5 and never sleeps."""

    def __init__(self, folder: Path, attempts: int = 4, delay_cap: float = 10.0) -> None:
        self.slept: list[float] = []
        self.faulty = FaultyBackend(LocalBackend(folder))
        self.recording = RecordingBackend(self.faulty)
        self.retrying = RetryingBackend(
            self.recording,
            attempts=attempts,
            base_delay=1.0,
            delay_cap=delay_cap,
            sleep=self.slept.append,
            uniform=lambda: 0.5,
        )


@pytest.fixture
def stack(folder: Path) -> Stack:
    """Return a stack that tries four times."""
    return Stack(folder)


@pytest.mark.parametrize("operation", ["read", "read_range", "download", "write", "upload", "delete", "list"])
def test_every_operation_is_repeated(stack: Stack, tmp_path: Path, operation: str) -> None:
    """What failed for a passing reason is done again until it succeeds."""
    stack.faulty.inner.write("one", b"content")
    (tmp_path / "up").write_bytes(b"up")
    stack.faulty.fail(operation, times=3, transient=True)
    backend = stack.retrying
    operations: dict[str, Callable[[], object]] = {
        "read": lambda: backend.read("one"),
        "read_range": lambda: backend.read_range("one", 1, 2),
        "download": lambda: backend.download("one", tmp_path / "down"),
        "write": lambda: backend.write("one", b"new"),
        "upload": lambda: backend.upload(tmp_path / "up", "one"),
        "delete": lambda: backend.delete("one"),
        "list": lambda: [info.name for info in backend.list("")],
    }
    result = operations[operation]()
    assert [call.operation for call in stack.recording.calls] == [operation] * 4
    assert result == {"read": b"content", "read_range": b"on", "list": ["one"]}.get(operation)


def test_gives_up_after_its_attempts(stack: Stack) -> None:
    """The error of the last attempt reaches the caller."""
    stack.faulty.fail("read", times=99, transient=True)
    with pytest.raises(BackendError, match="ordered to fail"):
        stack.retrying.read("one")
    assert stack.recording.calls == [Call("read", "one")] * 4
    assert len(stack.slept) == 3


def test_permanent_errors_are_not_repeated(stack: Stack) -> None:
    """What repetition cannot help is raised at once."""
    stack.faulty.fail("read", transient=False)
    stack.faulty.fail("read", nth=2, error=IntegrityError("rotten"))
    for kind in (BackendError, IntegrityError, NotFoundError):
        with pytest.raises(kind):
            stack.retrying.read("one")
    assert len(stack.recording.calls) == 3
    assert stack.slept == []


def test_pauses_double_up_to_the_cap(folder: Path) -> None:
    """Each pause is drawn from a span twice as long as the last, until the cap."""
    stack = Stack(folder, attempts=7, delay_cap=6.0)
    stack.faulty.fail("read", times=99, transient=True)
    with pytest.raises(BackendError):
        stack.retrying.read("one")
    assert stack.slept == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_broken_listing_yields_each_name_once(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that breaks off in the middle is taken up without repeating a name."""
    local = stack.faulty.inner
    for number in range(5):
        local.write(f"m/{number}", b"x")
    whole = list(local.list("m"))
    breaks = iter([2, 4])

    def list_in_pieces(folder: str) -> Iterator[Info]:
        limit = next(breaks, None)
        yield from whole[:limit]
        if limit is not None:
            raise BackendError("cut off", transient=True)

    monkeypatch.setattr(local, "list", list_in_pieces)
    assert list(stack.retrying.list("m")) == whole
    assert len(stack.slept) == 2


def test_lost_answer_to_an_exclusive_write_is_settled(stack: Stack) -> None:
    """An exclusive write that was done, but reported as failed, is a success on the second attempt."""
    stack.faulty.fail("write", transient=True, lose_answer=True)
    stack.retrying.write("one", b"ours", exclusive=True)
    assert [call.operation for call in stack.recording.calls] == ["write", "write", "read"]
    assert stack.retrying.read("one") == b"ours"


def test_another_writers_content_is_not_ours(stack: Stack) -> None:
    """After a failed attempt a name that holds other content is taken."""
    stack.faulty.inner.write("one", b"theirs")
    stack.faulty.fail("write", transient=True)
    with pytest.raises(ExistsError):
        stack.retrying.write("one", b"ours", exclusive=True)
    assert stack.retrying.read("one") == b"theirs"


def test_taken_at_the_first_attempt_is_taken(stack: Stack) -> None:
    """Without a failure before it, a taken name is not read back, even if it holds the same."""
    stack.faulty.inner.write("one", b"same")
    with pytest.raises(ExistsError):
        stack.retrying.write("one", b"same", exclusive=True)
    assert [call.operation for call in stack.recording.calls] == ["write"]

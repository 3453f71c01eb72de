"""Forked children: one that fails is told by its status, one that is stuck by where it is."""

from __future__ import annotations

import signal
import threading

import pytest

from tests import children
from tests.children import FAILED, ended, fork


def test_how_a_child_ends_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    """By what it returns; where it raised, it says what."""

    def fail() -> None:
        raise LookupError("nothing there")

    assert [ended(fork(lambda: None)), ended(fork(lambda: 3)), ended(fork(fail))] == [0, 3, FAILED]
    assert "LookupError: nothing there" in capfd.readouterr().err


def test_a_stuck_child_says_where(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And is killed."""
    monkeypatch.setattr(children, "PATIENCE", 0.3)
    lock = threading.Lock()

    def wait_for_ever() -> None:
        lock.acquire()

    with lock:
        assert ended(fork(wait_for_ever)) == -signal.SIGKILL
    assert "wait_for_ever" in capfd.readouterr().err

"""New answers on their way to the team: at exit, in the background, or when the user says so."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from casstore.errors import BackendError, ConfigError
from casstore.inference.cache import Cache
from casstore.inference.guard import Guard
from casstore.inference.pushing import Pusher
from casstore.repo.repository import Repository
from tests.inference.fakes import HELLO, BrokenStore, DictStore, FakeClient


def test_nothing_is_pushed_unless_asked() -> None:
    """By default the user pushes."""
    store = DictStore()
    with Cache(store) as cache:
        cache.wrap(FakeClient()).converse(HELLO)
    assert not [did for did in store.did if did.startswith("push")]


def test_push_at_exit_happens_once_and_only_for_what_is_new() -> None:
    """Closing pushes what was added; a run of hits pushes nothing."""
    store = DictStore()
    for pushes in (1, 1):
        with Cache(store, push="exit", remote="team") as cache:
            for _ in range(3):
                cache.wrap(FakeClient()).converse(HELLO)
        assert store.did.count("push team") == pushes


def test_push_in_the_background() -> None:
    """New answers leave while the program runs."""
    pushed = threading.Event()

    class Store(DictStore):
        def push(self, remote: str | None = None) -> object:
            pushed.set()
            return super().push(remote)

    store = Store()
    pusher = Pusher(store, None, "background", Guard(), interval=0.01)
    pusher.notice()
    assert pushed.wait(30)
    pusher.close()
    assert store.did.count("push None") == 1


def test_a_push_that_fails_is_tried_again() -> None:
    """What could not be pushed stays new."""
    store = BrokenStore(BackendError("unreachable", transient=True), ["push"])
    pusher = Pusher(store, None, "exit", Guard())
    pusher.notice()
    pusher.push()
    store.on = []
    pusher.close()
    assert store.did == ["fault", "push None"]


def test_a_wrong_word_is_refused() -> None:
    """There are two ways to push."""
    with pytest.raises(ConfigError, match="exit"):
        Cache(DictStore(), push="sometimes")  # type: ignore[arg-type]  # wrong on purpose


PROGRAM = """
import sys
from casstore.inference.cache import Cache
from tests.inference.fakes import HELLO, FakeClient
cache = Cache(sys.argv[1], push="exit", remote=sys.argv[2])
print(cache.wrap(FakeClient()).converse(HELLO).text)
"""


def test_a_program_that_just_ends_has_pushed(tmp_path: Path) -> None:
    """Nobody need close the cache: what is new is pushed as the process ends, and a colleague has it."""
    remote = (tmp_path / "team").as_uri()
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "mine"), remote]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("answer 1\n", "")
    with Repository.open(tmp_path / "theirs") as repository:
        assert repository.pull(remote).entries == 1
        client = FakeClient()
        assert Cache(repository).wrap(client).converse(HELLO).hit
        assert not client.calls

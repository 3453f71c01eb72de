"""New answers on their way to the team: pushed at exit, or in the background.  Floor: inference.

A push that fails is told once and tried again with the next; nothing is lost, since what was not pushed stays
new to the remote.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from functools import cache
from importlib import import_module
from typing import Literal

from casstore.errors import ConfigError
from casstore.inference.guard import Guard
from casstore.inference.tiers import EntryStore

Push = Literal["exit", "background"]

INTERVAL = 30.0
"""Seconds that answers are collected before a push in the background."""


class Pusher:
    """Pushes a store's new entries when they are due.

    Args:
        store: The store.
        remote: The remote's name or URL; None for the configured one.
        when: ``exit``: when the cache is closed or the program ends; ``background``: also while it runs.
        guard: What makes a failing push harmless.
        interval: Seconds between pushes in the background.
    """

    def __init__(
        self, store: EntryStore, remote: str | None, when: Push, guard: Guard, *, interval: float = INTERVAL
    ) -> None:
        if when not in ("exit", "background"):
            raise ConfigError(f"push is 'exit' or 'background', not {when!r}")
        self._store = store
        self._remote = remote
        self._when = when
        self._guard = guard
        self._interval = interval
        self._new = threading.Event()
        self._stop = threading.Event()
        self._pushing = threading.Lock()
        self._thread: threading.Thread | None = None
        _push_all_at_exit()
        _OPEN.add(self)

    def notice(self) -> None:
        """There is a new entry."""
        self._new.set()
        if self._when == "background" and (self._thread is None or not self._thread.is_alive()):
            with self._pushing:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="casstore-push", daemon=True)
                    self._thread.start()

    def push(self) -> None:
        """Push now, if anything is new."""
        with self._pushing:
            if self._new.is_set():
                self._new.clear()
                if self._guard.attempt("push", self._store.push, self._remote) is None:
                    self._new.set()

    def close(self) -> None:
        """Push what is left, and stop."""
        _OPEN.discard(self)
        self._stop.set()
        self.push()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.push()


_OPEN: weakref.WeakSet[Pusher] = weakref.WeakSet()


def _push_all() -> None:
    for pusher in list(_OPEN):
        pusher.push()


@cache
def _push_all_at_exit() -> None:
    # A push works with thread pools, which no longer start work when `atexit` comes: it must run just before
    # they close. Threading calls what is registered last first, so theirs is registered before ours.
    import_module("concurrent.futures.thread")
    register = getattr(threading, "_register_atexit", atexit.register)
    register(_push_all)

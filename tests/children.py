"""Children that tests fork: they end whatever happens in them, and nobody waits for one for ever."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds after which a process or a thread is stuck."""

FAILED = 99
"""How a child ends in which something was raised."""


def fork(work: Callable[[], int | None]) -> int:
    """Run `work` in a forked child, and return its id; it ends with what `work` returns, with 0 for None.

    Were it to raise or to return here, it would go on with the tests beside its parent.
    """
    with warnings.catch_warnings():
        # Python warns of forking with threads about; that this works is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    status = FAILED
    try:
        tell_where_stuck()
        status = work() or 0
    except BaseException:  # noqa: BLE001 - told by its exit status, too
        traceback.print_exc()
    finally:
        os._exit(status)


def tell_where_stuck() -> None:
    """In a child: have it say on SIGUSR1 where each of its threads is."""
    with contextlib.suppress(ValueError, OSError):  # standard error is no file
        faulthandler.register(signal.SIGUSR1)


def ended(child: int) -> int:
    """Return how a child ended, signals as negative numbers; one that is stuck says where, and is ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    kill(child)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int) -> None:
    """End a child that is stuck, once it has said where."""
    os.kill(child, signal.SIGUSR1)
    time.sleep(1)
    os.kill(child, signal.SIGKILL)

"""What adds up while a push or a pull runs, and the report of it.  Floor: repo."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.backends.progress import Progress, watching
from casstore.digest import Digest
from casstore.events import Advanced, Event, Finished, OnEvent, Started

if TYPE_CHECKING:
    from pathlib import Path

    from casstore.repo.plan import Failure, Plan
    from casstore.repo.remote import Remote


@dataclass(frozen=True, slots=True)
class Report:
    """What a push or a pull did.

    Attributes:
        operation: ``push`` or ``pull``.
        remote: The remote's name.
        objects: Objects moved.
        packs: Packs moved whole.
        entries: Entries and tombstones that became known.
        bytes: Stored bytes moved: of objects, packs and parts of packs; segments are not counted.
        requests: Requests sent, by verb.
        seconds: Wall time.
        left: Objects that stay behind; see `Plan`.
        failures: What could not be moved or was refused.
        missing: Objects that stay wanted, of a pull; see `Plan`.
        made: The folder that a push made for the remote, with mode 0700; None where it was there.
    """

    operation: str
    remote: str
    objects: int
    packs: int
    entries: int
    bytes: int
    requests: Mapping[str, int]
    seconds: float
    left: int
    failures: tuple[Failure, ...]
    missing: int = 0
    made: Path | None = None


class Run:
    """What adds up while a push or a pull runs.

    Args:
        operation: ``push`` or ``pull``.
        remote: The remote.
        on_event: Told of the progress.
        workers: Requests under way at once.
    """

    def __init__(self, operation: str, remote: Remote, on_event: OnEvent, workers: int | None) -> None:
        self.workers = workers
        self.entries = 0
        self.missing = 0
        self._failures: list[Failure] = []
        self._passing: set[str] = set()
        self._operation = operation
        self._remote = remote
        self._on_event = on_event
        self._telling = threading.Lock()
        self._begun = time.monotonic()
        self._before = remote.begin_report()
        self._objects = 0
        self._packs = 0
        self._bytes = 0
        self._shown = 0
        self._moving: list[Progress] = []

    def tell(self, event: Event) -> None:
        """Pass an event on; from any thread, of which each waits for the other."""
        with self._telling:
            self._on_event(event)

    def start(self, plan: Plan) -> None:
        """Tell what will move."""
        self.tell(Started(self._operation, plan.count, plan.bytes))

    def advance(self, objects: int, stored: int, *, packs: int = 0) -> None:
        """Tell what has moved: objects, stored bytes, and how many packs that was."""
        self._objects += objects
        self._packs += packs
        self._bytes += stored
        self._show(objects)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Watch a file that this thread sends or fetches in the block, so that `look` can tell of it."""
        progress = Progress()
        self._moving.append(progress)
        try:
            with watching(progress):
                yield
        finally:
            self._moving.remove(progress)

    def look(self) -> None:
        """Tell how far what is under way has come; what is told here is not told again when it is done."""
        self._show(0)

    def _show(self, objects: int) -> None:
        reached = self._bytes + sum(progress.moved for progress in tuple(self._moving))
        more = max(0, reached - self._shown)
        self._shown += more
        if objects or more:
            self.tell(Advanced(self._operation, objects, more))

    def fail(self, failures: Iterable[Failure], *, passing: bool = False) -> None:
        """Take in what could not be moved; `passing`, for a reason that is none of the objects'."""
        added = list(failures)
        self._failures += added
        if passing:
            self._passing.update(failure.name for failure in added)

    def forgive(self, objects: Collection[str]) -> None:
        """Forget failures of objects that are tried again."""
        self._failures = [failure for failure in self._failures if failure.name not in objects]
        self._passing.difference_update(objects)

    @property
    def failed(self) -> list[Digest]:
        """The objects that could not be moved."""
        return [Digest(failure.name) for failure in self._failures]

    @property
    def doubtful(self) -> list[Digest]:
        """Those of them that themselves are gone or bad."""
        return [digest for digest in self.failed if digest not in self._passing]

    def finish(self) -> None:
        """Tell that nothing moves any more."""
        self.tell(Finished(self._operation))

    def report(self, plan: Plan) -> Report:
        """Return what was done of a plan."""
        after = self._remote.backend.requests()
        requests = {verb: count - self._before.get(verb, 0) for verb, count in after.items()}
        return Report(
            self._operation,
            self._remote.name,
            self._objects,
            self._packs,
            self.entries,
            self._bytes,
            {verb: count for verb, count in requests.items() if count},
            time.monotonic() - self._begun,
            plan.left,
            plan.failures + tuple(self._failures),
            self.missing,
            self._remote.made,
        )

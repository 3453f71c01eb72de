"""One remote: its backend, its marker, and what the index believes of it.  Floor: repo."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from casstore.backends import open_backend
from casstore.backends.open import scheme_of
from casstore.catalog.inventory import entries_due
from casstore.catalog.tracking import Tracking
from casstore.config.location import file_path
from casstore.digest import Digest
from casstore.errors import FormatError, NotFoundError, RemoteGoneError
from casstore.repo.manifest import Listed, ManifestReader, Vanished
from casstore.repo.plan import Contact, Failure
from casstore.store.layout import MANIFEST, MARKER, segment_name
from casstore.store.marker import PACKED, Marker, ensure_marker, read_marker, require_feature
from casstore.store.objects import ObjectStore

if TYPE_CHECKING:
    from casstore.backends.base import Backend
    from casstore.config import RemoteConfig
    from casstore.repo.local import Local

_RELOOKS = 2
"""How often the manifest is listed anew, where a segment in it was gone when it was asked for."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What reading a remote's manifest brought.

    Attributes:
        contact: What a plan needs to know of the remote.
        entries: Entries that changed here.
        due: Entries known before whose objects are still to be brought.
        failures: Segments that were refused.
        listed: The segments that it lists, the largest first.
    """

    contact: Contact
    entries: int
    due: int
    failures: tuple[Failure, ...]
    listed: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A store at a remote, which was looked for before anything was made here for the sake of it.

    Attributes:
        config: The remote's URL and how to reach it.
        backend: Its bytes.
        marker: Its marker; None where that is lost, as whoever reads the manifest will say.
    """

    config: RemoteConfig
    backend: Backend
    marker: Marker | None


def find_store(config: RemoteConfig, *, durable: bool) -> Found:
    """Return the store at a remote, for a GET of its marker.

    Raises:
        NotFoundError: There is none.
    """
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(contextlib.closing(_open(config, durable=durable)))
        try:
            marker = read_marker(backend)
        except NotFoundError:
            if not any(backend.list(MANIFEST)):
                raise _no_store(config.name, config.url) from None
            marker = None
        stack.pop_all()
    return Found(config, backend, marker)


def _open(config: RemoteConfig, *, durable: bool) -> Backend:
    return open_backend(
        config.url,
        endpoint=config.endpoint,
        region=config.region,
        profile=config.profile,
        durable=durable,
    )


def _no_store(name: str, url: str) -> NotFoundError:
    return NotFoundError(f"there is no store at {url}: check the spelling, or make one: casstore push {name}")


class Remote:
    """A remote of the store `local`.

    Args:
        local: The local store.
        config: The remote's URL and how to reach it.
        found: The store there, if it was looked for already.
    """

    def __init__(self, local: Local, config: RemoteConfig, found: Found | None = None) -> None:
        self.name = config.name
        self._local = local
        self.backend = found.backend if found else _open(config, durable=local.durable)
        self.tracking = Tracking(local.index, config.identity)
        if found and found.marker:
            self.tracking.remember_marker(found.marker)
        self._unreported = dict(self.backend.requests())
        self._marker = self.tracking.marker()
        self.made: Path | None = None
        """The folder that `prepare` made, private to this user, where the remote is a new folder."""

    def begin_report(self) -> dict[str, int]:
        """Return the requests that a report which begins now leaves out: all but those of `find_store`."""
        sent, unreported = self.backend.requests(), self._unreported
        self._unreported = {}
        return {verb: count - unreported.get(verb, 0) for verb, count in sent.items()}

    def objects(self) -> ObjectStore:
        """Return the remote's objects, for reading.

        Raises:
            NotFoundError: There is no store.
        """
        return self._objects(self._marker or self._read_marker())

    def _read_marker(self) -> Marker:
        self._marker = read_marker(self.backend)
        self.tracking.remember_marker(self._marker)
        return self._marker

    def prepare(self, *, packs: bool = False) -> ObjectStore:
        """Return the remote's objects, for writing; the store is begun if there is none.

        Args:
            packs: Whether packs or merged segments will be written.
        """
        before = self._marker
        absent = self._absent_folder() if before is None else None
        marker = before or ensure_marker(self.backend)
        self.made = self.made or absent
        if packs:
            marker = require_feature(self.backend, marker, PACKED)
        if marker != before:
            self._marker = marker
            self.tracking.remember_marker(marker)
        return self._objects(marker)

    def _absent_folder(self) -> Path | None:
        """Return the remote's folder if it is one that does not exist yet."""
        if scheme_of(self.backend.url) != "file":
            return None
        folder = Path(file_path(self.backend.url))
        return None if folder.exists() else folder

    def refresh(self, *, first: bool = False, anew: bool = False, again: bool = False) -> Refreshed:
        """Take over what is new in the remote's manifest: one LIST, and one GET a new segment.

        A segment that is gone when it is asked for was collected meanwhile: then it is listed anew.

        Args:
            first: Whether there may be no store yet, as before a first push.
            anew: Whether a remote that is gone is taken for a new one.
            again: Whether all that its segments say is believed again, whatever was found to be otherwise.

        Raises:
            NotFoundError: There is no store, and `first` is false.
            RemoteGoneError: It is gone, and `anew` is false.
        """
        refreshed, gone = self._refresh(anew=anew, again=again)
        if refreshed.contact.empty and not first:
            raise _no_store(self.name, self.backend.url)
        for _ in range(_RELOOKS):
            if not gone:
                break
            more, gone = self._refresh()
            refreshed = replace(more, entries=refreshed.entries + more.entries, due=refreshed.due)
        return refreshed

    def require(self) -> None:
        """See that there still is a store where one was.

        Nothing can be told of one that is not there, such as a folder that is not mounted: what is believed
        of it may hold again in a moment, and to write there would make another store in its place.

        Raises:
            RemoteGoneError: There is none.
        """
        if self._is_gone():
            raise RemoteGoneError(
                f"there is no store at {self.backend.url} any more, though there was one: check the"
                f" URL and, if it is a folder, see that it is mounted; if it was removed for good, begin it"
                f" anew with what is here: casstore push --anew {self.name}"
            )

    def _refresh(self, *, anew: bool = False, again: bool = False) -> tuple[Refreshed, bool]:
        due = entries_due(self._local.index, self.tracking.id)
        known = self.tracking.segments()  # before the LIST: what is published meanwhile has not vanished
        listed = self._reader().listed()
        if not listed:  # as where a first push was interrupted, or all of it is gone
            if anew and self._is_gone():
                return self._begin_anew(listed, due)
            self.require()
        if again:
            return self._begin_anew(listed, due)
        try:
            return self._take_over(known, listed, due)
        except Vanished:
            return self._begin_anew(listed, due)

    def _begin_anew(self, listed: list[Listed], due: int) -> tuple[Refreshed, bool]:
        """Read a remote that was emptied, restored or replaced: nothing believed of it holds."""
        self.tracking.reset()
        self._marker = None
        return self._take_over(set(), listed, due)

    def _reader(self) -> ManifestReader:
        return ManifestReader(self._local, self.backend, self.tracking)

    def _take_over(self, known: set[Digest], listed: list[Listed], due: int) -> tuple[Refreshed, bool]:
        contact = self._contact(len(listed))  # a store that must not be read is refused before it is
        taken = self._reader().take_over(known, listed)
        return Refreshed(contact, taken.entries, due, taken.failures, tuple(listed)), taken.gone

    def publish(self, segment: Digest) -> None:
        """Upload a segment that stands in the local manifest."""
        self.publish_file(self._local.path(segment_name(segment)), segment)

    def publish_file(self, path: Path, segment: Digest) -> None:
        """Upload the file of a segment."""
        self.backend.upload(path, segment_name(segment))

    def _is_gone(self) -> bool:
        """Return whether the marker was read or written before, and is no longer there."""
        if self._marker is None:
            return False
        try:
            read_marker(self.backend)
        except NotFoundError:
            return True
        return False

    def _contact(self, segments: int) -> Contact:
        if self._marker is not None:
            return self._met(self._marker, segments)
        try:
            return self._met(self._read_marker(), segments)
        except NotFoundError:
            if segments:
                raise FormatError(
                    f"{self.backend.url} has a manifest but no {MARKER}: restore it, or use another prefix"
                ) from None
            return Contact(self.name, 0, first=True, empty=True, part_size=self.backend.part_size)

    def _met(self, marker: Marker, segments: int) -> Contact:
        packs = PACKED in marker.features
        # While it is empty, its marker is read each time: see `require`.
        return Contact(self.name, segments, first=not segments, packs=packs, part_size=self.backend.part_size)

    def _objects(self, marker: Marker) -> ObjectStore:
        here = self._local.objects.dictionaries
        return ObjectStore(self.backend, marker.shards, self._local.codec, self._local.spool, here)

"""Making an index anew: from segments, journals and objects.  Floor: repo."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from casstore.backends.local import LocalBackend
from casstore.backends.reasons import words
from casstore.catalog.connecting import locked, replacing
from casstore.catalog.index import Index, now, put_objects, put_pack_here
from casstore.catalog.journal import Journal, replay
from casstore.catalog.learning import absorb
from casstore.catalog.records import Claim, Entry, Kept, Location, Record
from casstore.catalog.rows import DamagedIndexError
from casstore.catalog.segment import read_segment
from casstore.digest import Digest
from casstore.errors import CasstoreError, FormatError, IntegrityError
from casstore.events import Advanced, Finished, OnEvent, Started, Warned
from casstore.quiet import ignore
from casstore.repo.local import INDEX, JOURNAL, QUARANTINE
from casstore.repo.plan import Failure
from casstore.store.codec import FRAME_SIZE
from casstore.store.layout import MANIFEST, OBJECTS, PACKS, digest_in
from casstore.store.pack import Pack, read_contents
from casstore.store.sealed import UNKNOWN, Stored, claimed_size, examine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from casstore.backends.base import Info

LOCK = "rebuild.lock"
UNFINISHED = "index.rebuild"
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild found.

    Attributes:
        entries: Entries in the new index.
        objects: Objects in the new index.
        absent: Entries whose object is not here; a remote may have it.
        damaged: Journal lines that could not be read.
        failures: Files that could not be read.
    """

    entries: int
    objects: int
    absent: int
    damaged: int
    failures: tuple[Failure, ...]


def restore(root: Path, on_event: OnEvent = ignore) -> None:
    """Make the index of the store at `root`, unless another process has done so meanwhile."""
    with locked(root / LOCK):
        if not _is_readable(root / INDEX):
            _rebuild(root, on_event)


def rebuild(root: Path, on_event: OnEvent) -> RebuildReport:
    """Make the index of the store at `root` anew; other processes wait to write, and then use the new one."""
    with locked(root / LOCK), _frozen(root / INDEX):
        return _rebuild(root, on_event)


def _rebuild(root: Path, on_event: OnEvent) -> RebuildReport:
    for path in root.glob(f"{UNFINISHED}*"):
        path.unlink()
    index = Index(root / UNFINISHED, create=True)
    backend = LocalBackend(root)
    files, packs = list(backend.list(OBJECTS)), _by_age(root, backend.list(PACKS))
    on_event(Started("rebuild", len(files) + len(packs), sum(info.size for info in (*files, *packs))))
    failures = _add_objects(index, root, files, on_event)
    for info in packs:
        failures += _add_pack(index, root, info)
        on_event(Advanced("rebuild", 1, info.size))
    kept: set[Digest] = set()
    for info in backend.list(MANIFEST):
        failures += _add_segment(index, root, info, kept)
    journal = replay(Journal(root / JOURNAL, durable=False).paths())
    absorb(index, _claims(journal.records, kept))
    _mark_kept(index, kept)
    report = _report(index, journal.damaged, failures)
    index.close()
    with replacing(root / INDEX):
        _set_aside(root)
        (root / UNFINISHED).replace(root / INDEX)
    on_event(Finished("rebuild"))
    if report.objects or report.entries or failures or journal.damaged:
        on_event(Warned(_summary(report)))
    return report


def _add_objects(index: Index, root: Path, files: list[Info], on_event: OnEvent) -> list[Failure]:
    failures: list[Failure] = []
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        with index.writing() as connection:
            for info in batch:
                path = root / info.name
                try:
                    put_objects(connection, [_object(path, info)], used=path.stat().st_mtime_ns // 1_000_000)
                except (CasstoreError, OSError) as error:
                    failures.append(Failure(info.name, words(error)))
        on_event(Advanced("rebuild", len(batch), sum(info.size for info in batch)))
    return failures


def _object(path: Path, info: Info) -> Stored:
    """Return what a file holds: by its headers where it has one frame, since the next read verifies it."""
    digest = digest_in(info.name)
    size = claimed_size(path)
    return (
        Stored(digest, size, info.size) if size <= FRAME_SIZE else examine(path, Stored(digest, UNKNOWN, 0))
    )


def _by_age(root: Path, packs: Iterable[Info]) -> list[Info]:
    """Return packs in the order they came, the last of which tells the dictionary in use."""
    dated = []
    for info in packs:
        with contextlib.suppress(FileNotFoundError):
            dated.append(((root / info.name).stat().st_mtime_ns, info.name, info))
    return [info for _, _, info in sorted(dated)]


def _add_pack(index: Index, root: Path, info: Info) -> list[Failure]:
    """Take in the objects of a pack as its table of contents tells, since the next read verifies each."""
    path = root / info.name
    try:
        pack = Pack(digest_in(info.name), info.size, read_contents(path))
        used = path.stat().st_mtime_ns // 1_000_000
    except (CasstoreError, OSError) as error:
        return [Failure(info.name, str(error))]
    with index.writing() as connection:
        put_pack_here(connection, pack, used=used)
    return []


def _add_segment(index: Index, root: Path, info: Info, kept: set[Digest]) -> list[Failure]:
    try:
        absorb(index, _claims(read_segment(root / info.name, digest_in(info.name)), kept))
    except (IntegrityError, FormatError, OSError) as error:
        return [Failure(info.name, str(error))]
    return []


def _claims(records: Iterator[Record] | tuple[Record, ...], kept: set[Digest]) -> Iterator[Claim]:
    """Yield the claims among records, and note the objects put by hand."""
    for record in records:
        if isinstance(record, Claim):
            yield record
        elif isinstance(record, Location) and record.kept:
            kept.add(record.known.digest)
        elif isinstance(record, Kept):
            kept.add(record.object)


def _mark_kept(index: Index, kept: set[Digest]) -> None:
    with index.writing() as connection:
        rows = [(bytes.fromhex(digest),) for digest in kept]
        connection.executemany("UPDATE objects SET kept = 1 WHERE digest = ?", rows)


def _report(index: Index, damaged: int, failures: list[Failure]) -> RebuildReport:
    entries = absent = 0
    for claim in index.claims():
        if isinstance(claim, Entry):
            entries += 1
            absent += index.known(claim.object) is None
    return RebuildReport(entries, index.sums()[1], absent, damaged, tuple(failures))


def _summary(report: RebuildReport) -> str:
    text = f"rebuilt the index: {report.entries} entries, {report.objects} objects"
    if report.absent:
        text += f", {report.absent} of the entries without their object here"
    if report.failures:
        text += f"; could not read {len(report.failures)} files"
    if report.damaged:
        text += f"; could not read {report.damaged} journal lines"
    return text + "; last uses and the ledger of savings begin anew"


def _is_readable(path: Path) -> bool:
    try:
        Index(path).close()
    except DamagedIndexError:
        return False
    return True


def _set_aside(root: Path) -> None:
    """Move the old index out of the way, with the files that belong to it."""
    stamp = now()
    for path in root.glob(f"{INDEX}*"):
        folder = root / QUARANTINE
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # SQLite removes its files when the last user closes
            path.rename(folder / f"{stamp}-{path.name}")


@contextlib.contextmanager
def _frozen(path: Path) -> Iterator[None]:
    """Keep other processes from writing to the index at `path`, where that can be done."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(DamagedIndexError):
            index = Index(path)
            stack.callback(index.close)
            stack.enter_context(index.writing())
        yield

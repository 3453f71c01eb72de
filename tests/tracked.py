"""What an index says is pending for a remote, and wanted from it: read as tests compare it."""

from __future__ import annotations

from typing import Any, NamedTuple

from casstore.catalog.rows import refs_from
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest, Key


class Pending(NamedTuple):
    """A claim that a remote lacks, and the objects that it leads to; a tombstone has none."""

    key: Key
    objects: tuple[Digest, ...]


def pending(tracking: Tracking) -> list[Pending]:
    """Return the claims that a remote lacks, the earliest first."""
    rows = _rows(
        tracking,
        "SELECT e.key, e.object, e.refs FROM pending p JOIN entries e ON e.key = p.id"
        " WHERE p.remote = ? AND p.kind = 0 ORDER BY e.created, p.id",
    )
    return [
        Pending(Key(key.hex()), () if content is None else (Digest(content.hex()), *refs_from(refs)))
        for key, content, refs in rows
    ]


def pending_kept(tracking: Tracking) -> list[Digest]:
    """Return the objects put by hand that a remote lacks, by digest."""
    rows = _rows(tracking, "SELECT id FROM pending WHERE remote = ? AND kind = 1 ORDER BY id")
    return [Digest(digest.hex()) for (digest,) in rows]


def wanted(tracking: Tracking) -> list[tuple[int, str]]:
    """Return kind (0 an entry, 1 an object put by hand) and key or digest of what a pull should bring."""
    rows = _rows(
        tracking,
        "SELECT w.kind, w.id FROM wanted w LEFT JOIN entries e ON w.kind = 0 AND e.key = w.id"
        " WHERE w.remote = ? ORDER BY w.kind, e.created DESC, w.id",
    )
    return [(kind, found.hex()) for kind, found in rows]


def _rows(tracking: Tracking, query: str) -> list[tuple[Any, ...]]:
    with tracking._index.reading() as connection:
        return connection.execute(query, (tracking.id,)).fetchall()

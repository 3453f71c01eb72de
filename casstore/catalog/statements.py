"""The SQL of the index: its schema and its longer statements.  Floor: catalog.

Digests and keys are 32 bytes, not hex. In `entries`, a tombstone has no object. `pending` is what a
remote lacks, `wanted` what a pull from it should bring; kind 0 is an entry, by key, kind 1 an object put by
hand, by digest; kind 2, in `pending` alone, is an object that the remote needs and was found to lack,
whatever leads to it there. `remote_objects` is where a remote is believed to hold an object, `elsewhere`
where besides. `packs` are those that are here or in a remote; an object in one has its row number and an
offset. `replaced` are segments that a merged one stands for, `doomed` packs, segments and objects' own files
that a collection will delete. `untold` are records of what was uploaded and no segment tells yet. `chosen`
marks what one publishing takes; whatever changes a claim sets it pending anew, unmarked.
"""

from __future__ import annotations

from casstore.catalog.bulk import Insert
from casstore.catalog.records import NEVER

SCHEMA_VERSION = 2

SCHEMA = """
CREATE TABLE entries(
    key BLOB PRIMARY KEY, object BLOB, generation INTEGER NOT NULL, created INTEGER NOT NULL,
    labels TEXT NOT NULL, refs BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE packs(
    id INTEGER PRIMARY KEY, digest BLOB UNIQUE NOT NULL, stored INTEGER NOT NULL, members INTEGER NOT NULL,
    dictionary BLOB, here INTEGER NOT NULL
);
CREATE TABLE objects(
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, stored INTEGER NOT NULL, used INTEGER NOT NULL,
    kept INTEGER NOT NULL, frames BLOB, pack INTEGER, offset INTEGER
) WITHOUT ROWID;
CREATE TABLE totals(evictable INTEGER NOT NULL);
INSERT INTO totals VALUES (0);
CREATE TRIGGER object_added AFTER INSERT ON objects WHEN (new.pack IS NULL) <> new.kept BEGIN
    UPDATE totals SET evictable = evictable + new.stored * ((new.pack IS NULL) - new.kept); END;
CREATE TRIGGER object_removed AFTER DELETE ON objects WHEN (old.pack IS NULL) <> old.kept BEGIN
    UPDATE totals SET evictable = evictable - old.stored * ((old.pack IS NULL) - old.kept); END;
CREATE TRIGGER object_changed AFTER UPDATE OF kept, stored, pack ON objects BEGIN
    UPDATE totals SET evictable = evictable - old.stored * ((old.pack IS NULL) - old.kept)
        + new.stored * ((new.pack IS NULL) - new.kept); END;
CREATE TRIGGER pack_added AFTER INSERT ON packs WHEN new.here BEGIN
    UPDATE totals SET evictable = evictable + new.stored; END;
CREATE TRIGGER pack_removed AFTER DELETE ON packs WHEN old.here BEGIN
    UPDATE totals SET evictable = evictable - old.stored; END;
CREATE TRIGGER pack_changed AFTER UPDATE OF here, stored ON packs BEGIN
    UPDATE totals SET evictable = evictable - old.stored * old.here + new.stored * new.here; END;
CREATE TABLE remotes(id INTEGER PRIMARY KEY, url TEXT UNIQUE NOT NULL, marker TEXT);
CREATE TABLE remote_segments(remote INTEGER, segment BLOB, PRIMARY KEY(remote, segment)) WITHOUT ROWID;
CREATE TABLE remote_objects(
    remote INTEGER, object BLOB, size INTEGER NOT NULL, stored INTEGER NOT NULL, frames BLOB,
    pack INTEGER, offset INTEGER, PRIMARY KEY(remote, object)
) WITHOUT ROWID;
CREATE TABLE elsewhere(
    remote INTEGER, object BLOB, size INTEGER NOT NULL, stored INTEGER NOT NULL, frames BLOB,
    pack INTEGER, offset INTEGER, PRIMARY KEY(remote, object, pack)
) WITHOUT ROWID;
CREATE TRIGGER place_left AFTER UPDATE ON remote_objects
WHEN old.pack IS NOT new.pack AND NOT EXISTS (SELECT 1 FROM doomed d WHERE d.remote = old.remote
    AND d.digest = coalesce((SELECT digest FROM packs WHERE id = old.pack), old.object)) BEGIN
    DELETE FROM elsewhere WHERE remote = old.remote AND object = old.object
        AND pack = coalesce(old.pack, 0); INSERT INTO elsewhere VALUES (old.remote, old.object, old.size,
        old.stored, old.frames, coalesce(old.pack, 0), old.offset); END;
CREATE TABLE replaced(remote INTEGER, segment BLOB, PRIMARY KEY(remote, segment)) WITHOUT ROWID;
CREATE TABLE doomed(
    remote INTEGER, digest BLOB, what TEXT NOT NULL, after INTEGER NOT NULL, PRIMARY KEY(remote, digest)
) WITHOUT ROWID;
CREATE TABLE pending(
    remote INTEGER, kind INTEGER, id BLOB, chosen INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(remote, kind, id)
) WITHOUT ROWID;
CREATE TABLE untold(
    remote INTEGER, digest BLOB, record BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(remote, digest)
);
CREATE TABLE wanted(remote INTEGER, kind INTEGER, id BLOB, PRIMARY KEY(remote, kind, id)) WITHOUT ROWID;
CREATE TABLE tallies(
    day TEXT, provider TEXT, model TEXT, name TEXT, value REAL NOT NULL,
    PRIMARY KEY(day, provider, model, name)
) WITHOUT ROWID;
"""

CLAIM = "SELECT * FROM entries WHERE key = ?"

FIND = """
SELECT e.object, e.generation, e.created, e.labels, e.refs,
    o.size, o.stored, o.frames, p.digest, o.offset, p.dictionary
FROM entries e LEFT JOIN objects o ON o.digest = e.object LEFT JOIN packs p ON p.id = o.pack WHERE e.key = ?
"""

KNOWN = """
SELECT o.digest, o.size, o.stored, o.frames, p.digest, o.offset, p.dictionary
FROM objects o LEFT JOIN packs p ON p.id = o.pack WHERE o.digest = ?
"""

PUT_PACK = """
INSERT INTO packs(digest, stored, members, dictionary, here) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(digest) DO UPDATE SET stored = excluded.stored, members = excluded.members,
    dictionary = excluded.dictionary, here = max(here, excluded.here) RETURNING id
"""

CURRENT_DICTIONARY = "SELECT dictionary FROM packs WHERE dictionary IS NOT NULL ORDER BY id DESC LIMIT 1"

PUT_CLAIM = """
INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT(key) DO UPDATE SET object = excluded.object, generation = excluded.generation,
    created = excluded.created, labels = excluded.labels, refs = excluded.refs
"""

PUT_OBJECT = Insert(
    "INSERT INTO objects",
    "dnnnnbnn",
    """ON CONFLICT(digest) DO UPDATE SET size = excluded.size, stored = excluded.stored,
    used = max(used, excluded.used), kept = max(kept, excluded.kept), frames = excluded.frames,
    pack = excluded.pack, offset = excluded.offset""",
)

ADD_OBJECT = Insert(
    "INSERT INTO objects",
    "dnnnnbnn",
    "ON CONFLICT(digest) DO UPDATE SET used = max(used, excluded.used), kept = max(kept, excluded.kept)",
)

TALLY = """
INSERT INTO tallies VALUES (?, ?, ?, ?, ?)
ON CONFLICT(day, provider, model, name) DO UPDATE SET value = value + excluded.value
"""

# The order of casstore.catalog.merge.rank, as row values.
_RANK = (
    "(-{0}.generation, {0}.object IS NOT NULL, {0}.created, coalesce({0}.object, x''), {0}.labels, {0}.refs)"
)
_INCOMING_RANK = _RANK.format("i")
_STANDING_RANK = _RANK.format("e")

STAGE = """
CREATE TEMP TABLE IF NOT EXISTS incoming(
    key BLOB PRIMARY KEY, object BLOB, generation INTEGER, created INTEGER, labels TEXT, refs BLOB
) WITHOUT ROWID
"""

_TAKE_BETTER = f"""
ON CONFLICT(key) DO UPDATE SET object = excluded.object, generation = excluded.generation,
    created = excluded.created, labels = excluded.labels, refs = excluded.refs
WHERE {_RANK.format("excluded")} < {_STANDING_RANK}
"""

STAGE_CLAIM = Insert("INSERT INTO incoming AS e", "ddnntb", _TAKE_BETTER)

# Where no claim stands yet: straight to where they belong.
FIRST_CLAIM = Insert("INSERT INTO entries AS e", "ddnntb", _TAKE_BETTER)

PEND_FIRST = """
INSERT OR REPLACE INTO pending(remote, kind, id)
SELECT r.id, 0, e.key FROM remotes r CROSS JOIN entries e WHERE r.id <> ?
"""

# Before they are applied. CROSS JOIN: where there is no other remote, nothing is looked at.
PEND_BETTER = f"""
INSERT OR REPLACE INTO pending(remote, kind, id) SELECT r.id, 0, i.key
FROM remotes r CROSS JOIN incoming i LEFT JOIN entries e ON e.key = i.key
WHERE r.id <> ? AND (e.key IS NULL OR {_INCOMING_RANK} < {_STANDING_RANK})
"""

APPLY_BETTER = f"INSERT INTO entries AS e SELECT * FROM incoming WHERE true {_TAKE_BETTER}"

SETTLE_PENDING = f"""
DELETE FROM pending WHERE remote = ? AND kind = 0 AND id IN (
    SELECT i.key FROM incoming i JOIN entries e ON e.key = i.key WHERE {_INCOMING_RANK} = {_STANDING_RANK})
"""

WANT_INCOMING = f"""
INSERT OR IGNORE INTO wanted SELECT ?, 0, i.key FROM incoming i JOIN entries e ON e.key = i.key
WHERE i.object IS NOT NULL AND {_INCOMING_RANK} = {_STANDING_RANK}
    AND (length(i.refs) > 0 OR NOT EXISTS (SELECT 1 FROM objects o WHERE o.digest = i.object))
"""

WANT_FIRST = """
INSERT OR IGNORE INTO wanted SELECT ?, 0, e.key FROM entries e
WHERE e.object IS NOT NULL
    AND (length(e.refs) > 0 OR NOT EXISTS (SELECT 1 FROM objects o WHERE o.digest = e.object))
"""

PUT_REMOTE_OBJECT = Insert(
    "INSERT INTO remote_objects",
    "ndnnbnn",
    """ON CONFLICT(remote, object) DO UPDATE SET size = excluded.size, stored = excluded.stored,
    frames = excluded.frames, pack = excluded.pack, offset = excluded.offset""",
)

# What lies in a doomed pack may still be read, but a better place is better.
PUT_DOOMED_OBJECT = Insert("INSERT OR IGNORE INTO remote_objects", "ndnnbnn")

# CROSS JOIN keeps SQLite to this order: few remotes, and one look-up in each. The other way round, it would
# read all of remote_objects for every object.
HELD = f"""EXISTS (
    SELECT 1 FROM remotes r CROSS JOIN remote_objects h ON h.remote = r.id AND h.object = {{0}}
    LEFT JOIN packs k ON k.id = h.pack
    WHERE NOT EXISTS (SELECT 1 FROM doomed d WHERE d.remote = h.remote
            AND d.digest = coalesce(k.digest, h.object) AND d.after < {NEVER})
        AND NOT EXISTS (
            SELECT 1 FROM untold u WHERE u.remote = h.remote AND u.digest = coalesce(k.digest, h.object)))"""
"""Whether some remote holds an object for good: a collection may take away what no segment tells of."""

EVICTABLE = f"""
SELECT o.digest, o.stored, o.pack, {HELD.format("o.digest")} AS held
FROM objects o WHERE NOT o.kept ORDER BY held DESC, o.used
"""

# What is in a doomed pack may be read, but is not relied upon.
STAYS = f"""EXISTS (SELECT 1 FROM remote_objects h LEFT JOIN packs k ON k.id = h.pack
    WHERE h.remote = ?1 AND h.object = {{0}}
        AND NOT EXISTS (SELECT 1 FROM doomed d WHERE d.remote = ?1
            AND d.digest = coalesce(k.digest, h.object) AND d.after < {NEVER}))"""

CHOOSE = (
    f"""UPDATE pending SET chosen = ?2 WHERE remote = ?1 AND kind = 0 AND EXISTS (SELECT 1 FROM entries e
    WHERE e.key = pending.id AND (e.object IS NULL OR {STAYS.format("e.object")}))""",
    f"UPDATE pending SET chosen = ?2 WHERE remote = ?1 AND kind > 0 AND {STAYS.format('pending.id')}",
)

CHOSEN_CLAIMS = """
SELECT e.* FROM pending p JOIN entries e ON e.key = p.id
WHERE p.remote = ? AND p.kind = 0 AND p.id > ? AND p.chosen = ? ORDER BY p.id LIMIT 1000
"""

CHOSEN_KEPT = "SELECT id FROM pending WHERE remote = ? AND kind = 1 AND chosen = ? ORDER BY id"

PEND_REFS = f"""
WITH RECURSIVE chosen(refs) AS MATERIALIZED (SELECT e.refs FROM pending p CROSS JOIN entries e ON e.key = p.id
    WHERE p.remote = ?1 AND p.kind = 0 AND p.chosen = ?2 AND length(e.refs) > 0 AND e.object IS NOT NULL),
number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number
    WHERE n + 1 < (SELECT max(length(refs)) / 32 FROM chosen)),
ref(digest) AS (SELECT substr(refs, 32 * n + 1, 32) FROM chosen JOIN number ON length(refs) > 32 * n)
INSERT OR IGNORE INTO pending(remote, kind, id)
SELECT DISTINCT ?1, 2, digest FROM ref WHERE NOT {STAYS.format("ref.digest")}
"""
"""After CHOOSE: refs of what was chosen that could not be sent go with a later push, once they are here."""

_UNTOLD = """EXISTS (SELECT 1 FROM untold u WHERE u.remote = ?1 AND u.digest = coalesce((
    SELECT k.digest FROM remote_objects h JOIN packs k ON k.id = h.pack
    WHERE h.remote = ?1 AND h.object = {0}), {0}))"""

COUNT_NEEDED = f"""
SELECT count(*) FROM pending WHERE remote = ?1 AND kind = 2 AND CASE WHEN {STAYS.format("pending.id")}
    THEN {_UNTOLD.format("pending.id")} ELSE EXISTS (SELECT 1 FROM objects WHERE digest = pending.id) END
"""
"""How many of the objects that a remote needs a push can send, or has sent without a segment that says so."""

SETTLE_NEEDED = f"""
DELETE FROM pending WHERE remote = ?1 AND kind = 2 AND {STAYS.format("pending.id")}
    AND NOT {_UNTOLD.format("pending.id")}
"""

DOOM = """
INSERT INTO doomed VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET after = max(after, excluded.after)
"""

WANT_KEPT = """
INSERT OR IGNORE INTO wanted SELECT ?1, 1, ?2 WHERE NOT EXISTS (SELECT 1 FROM objects WHERE digest = ?2)
"""

# CROSS JOIN: one look-up in each remote, as in HELD.
REMEMBER_KEPT = (
    "CREATE TABLE IF NOT EXISTS lost_kept(digest BLOB PRIMARY KEY) WITHOUT ROWID",
    """CREATE TRIGGER IF NOT EXISTS kept_again AFTER INSERT ON objects
    WHEN EXISTS (SELECT 1 FROM lost_kept l WHERE l.digest = new.digest) BEGIN
        DELETE FROM lost_kept WHERE digest = new.digest;
        UPDATE objects SET kept = 1 WHERE digest = new.digest;
        INSERT OR IGNORE INTO pending(remote, kind, id) SELECT r.id, 1, new.digest FROM remotes r
            WHERE NOT EXISTS (SELECT 1 FROM remote_objects h WHERE h.remote = r.id AND h.object = new.digest);
        END""",
)
"""What keeps the mark of objects that were put by hand and lost: a table, and a trigger that restores it.

A push gives up on what is nowhere; so what is back is pending for the remotes that do not hold it.

They are made when the first one is lost: other stores do not pay for them at each object, and the version of
the schema stays the same.
"""

LOSE_KEPT = "INSERT OR IGNORE INTO lost_kept SELECT digest FROM objects WHERE digest = ? AND kept"

WANT_AGAIN = """
INSERT OR IGNORE INTO wanted SELECT h.remote, 1, h.object
FROM remotes r CROSS JOIN remote_objects h ON h.remote = r.id AND h.object = ?
"""

PEND_CLAIM = "INSERT OR REPLACE INTO pending(remote, kind, id) SELECT id, 0, ? FROM remotes"

PEND_KEPT = "INSERT OR REPLACE INTO pending(remote, kind, id) SELECT id, 1, ? FROM remotes"

PEND_EVERYTHING = """
INSERT OR REPLACE INTO pending(remote, kind, id)
SELECT :remote, 0, key FROM entries UNION ALL SELECT :remote, 1, digest FROM objects WHERE kept
"""

SIDES = f"""
SELECT a.digest, o.size, o.stored, o.frames, op.digest, o.offset, op.dictionary,
    h.size, h.stored, h.frames, hp.digest, h.offset, hp.dictionary,
    EXISTS (SELECT 1 FROM doomed d WHERE d.remote = h.remote
        AND d.digest = coalesce(hp.digest, h.object) AND d.after < {NEVER}),
    EXISTS (SELECT 1 FROM remotes r CROSS JOIN remote_objects e ON e.remote = r.id AND e.object = a.digest)
FROM asked a LEFT JOIN objects o ON o.digest = a.digest LEFT JOIN packs op ON op.id = o.pack
LEFT JOIN remote_objects h ON h.remote = ? AND h.object = a.digest LEFT JOIN packs hp ON hp.id = h.pack
"""

SPARE = f"UPDATE doomed SET after = {NEVER} WHERE remote = ? AND digest = ?"

_LASTING = """
SELECT w.remote, w.object, w.size, w.stored, w.frames, nullif(w.pack, 0), w.offset FROM elsewhere w
WHERE w.remote = ?1 AND NOT EXISTS (SELECT 1 FROM doomed d WHERE d.remote = w.remote
    AND d.digest = coalesce((SELECT digest FROM packs WHERE id = w.pack), w.object))
"""

# What lies in a doomed file and in another one too is where it lasts.
MOVE_ELSEWHERE = f"""
INSERT OR REPLACE INTO remote_objects {_LASTING} AND EXISTS (
    SELECT 1 FROM remote_objects h LEFT JOIN packs k ON k.id = h.pack
    JOIN doomed d ON d.remote = h.remote AND d.digest = coalesce(k.digest, h.object)
    WHERE h.remote = w.remote AND h.object = w.object)
"""

_DOUBTED = "object IN (SELECT digest FROM asked)"

DISBELIEVE = (
    f"DELETE FROM elsewhere WHERE remote = ?1 AND pack = ?2 AND {_DOUBTED}",
    f"""DELETE FROM remote_objects WHERE remote = ?1 AND coalesce(?2, pack, 0) = coalesce(pack, 0)
        AND {_DOUBTED}""",
)
"""That a remote does not hold what was asked for in a pack (?2; 0: in files of their own; NULL: where it is
believed to be)."""

FOUND_THERE = f"""DELETE FROM elsewhere WHERE remote = ?1 AND {_DOUBTED} AND EXISTS (
    SELECT 1 FROM remote_objects h WHERE h.remote = ?1 AND h.object = elsewhere.object
        AND coalesce(h.pack, 0) = elsewhere.pack)"""

_USABLE = f"""{_LASTING} AND w.{_DOUBTED} AND NOT EXISTS (SELECT 1 FROM packs k
    WHERE k.id = w.pack AND lower(hex(k.dictionary)) IN (SELECT value FROM json_each(?2)))"""

LOOK_PAST = (
    f"""INSERT OR REPLACE INTO elsewhere
    SELECT remote, object, size, stored, frames, coalesce(pack, 0), offset FROM remote_objects
    WHERE remote = ?1 AND {_DOUBTED} AND object IN (SELECT object FROM ({_USABLE}))""",
    f"INSERT OR REPLACE INTO remote_objects {_USABLE}",
)
"""That what was asked for is looked for where it needs none of some dictionaries (?2), if that is known."""

LOOK_ELSEWHERE = (
    f"INSERT OR IGNORE INTO remote_objects {_LASTING} AND w.{_DOUBTED}",
    FOUND_THERE,
    f"DELETE FROM asked WHERE {STAYS.format('asked.digest')}",
    f"INSERT OR REPLACE INTO pending(remote, kind, id) SELECT ?1, 0, key FROM entries WHERE {_DOUBTED}",
    """INSERT OR REPLACE INTO pending(remote, kind, id)
    SELECT ?1, 0, e.key FROM entries e JOIN asked a ON length(e.refs) > 0 AND instr(e.refs, a.digest) > 0""",
    """INSERT OR REPLACE INTO pending(remote, kind, id)
    SELECT ?1, 1, digest FROM objects WHERE kept AND digest IN (SELECT digest FROM asked)""",
)
"""That what was asked for is where it lasts, if that is known, or what leads to it is pending again."""

PEND_NEEDED = "INSERT OR IGNORE INTO pending(remote, kind, id) SELECT ?1, 2, digest FROM asked"
"""After LOOK_ELSEWHERE: what the remote needs and lacks is pending, whatever leads to it, or nothing here."""

FORGET_NEEDED = "DELETE FROM pending WHERE remote = ? AND kind = 2"

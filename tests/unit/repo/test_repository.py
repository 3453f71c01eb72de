"""The repository: objects and entries of one local store."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from casstore.backends.multipart import PART_SIZE
from casstore.digest import Key, digest_of
from casstore.errors import (
    BackendError,
    ConfigError,
    FormatError,
    IntegrityError,
    NotEnoughCopiesError,
    NotFoundError,
)
from casstore.repo import repository as module
from casstore.repo import tiers
from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE
from tests.doubles import FaultyBackend
from tests.s3 import Server
from tests.stores import (
    MIB,
    answer,
    answers,
    damage,
    files,
    fill,
    key,
    noise,
    record,
    record_remote,
    use_backend,
)
from tests.unit.repo.conftest import Open

PATH = "objects/{0}/{1}/{2}.zst"


def path_of(repository: Repository, digest: str) -> Path:
    """Return the file of an object."""
    return repository.path / PATH.format(digest[0], digest[1], digest)


# Objects


@pytest.mark.parametrize("size", [0, 10, FRAME_SIZE, 2 * FRAME_SIZE + 3])
def test_object_round_trip(store: Repository, tmp_path: Path, size: int) -> None:
    """Content put from bytes, a file or a stream comes back whole, in pieces, in part and as a file."""
    content = noise(size)
    source = tmp_path / "source"
    source.write_bytes(content)
    digests = {store.put(content), store.put(source), store.put(io.BytesIO(content))}
    assert digests == {digest_of(content)}
    (digest,) = digests
    assert store.get(digest) == b"".join(store.stream(digest)) == content
    assert store.get_range(digest, size // 2, 100) == content[size // 2 :][:100]
    store.export(digest, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "store", "target"]
    assert list((store.path / "tmp").iterdir()) == []


def test_putting_what_exists_writes_nothing(store: Repository) -> None:
    """A second put of an object writes neither file, journal nor index."""
    digest = store.put(b"content")
    fill(store, [1])
    store.flush()
    journal, index = files(store.path, "journal"), (store.path / "index.sqlite-wal").read_bytes()
    backend = record(store)
    assert store.put(b"content") == digest
    store.put_entry(key(2), answer(1))
    assert [call for call in backend.calls if call.operation in {"write", "upload"}] == []
    store.put(b"content")
    assert len(files(store.path, "journal")) == len(journal)
    assert (store.path / "index.sqlite-wal").read_bytes().startswith(index)


def test_putting_again_leaves_nothing_to_push(store: Repository, folder_url: str) -> None:
    """An object that a remote has is not pushed again because it was put again."""
    store.put(b"content")
    store.push(folder_url)
    store.put(b"content")
    assert store.status(folder_url).push.is_empty
    assert store.push(folder_url).requests == {"LIST": 1}


@pytest.mark.parametrize("level", [1, 6])
def test_putting_again_at_another_level_keeps_the_file_readable(opened: Open, level: int) -> None:
    """The index goes on describing the file that is there, not the one that was compressed anew."""
    content = b"".join(b"%d " % (number * number) for number in range(700_000))
    assert len(content) > FRAME_SIZE
    first = opened()
    digest = first.put(content)
    (first.path / "config.toml").write_text(f"level = {level}\n")
    second = opened()
    second.put(content)
    assert second.get_range(digest, FRAME_SIZE + 5, 9) == content[FRAME_SIZE + 5 :][:9]


def test_bad_copy_is_replaced_by_putting_again(store: Repository) -> None:
    """Putting content whose stored copy is bad stores a good one."""
    for content in (b"small", noise(FRAME_SIZE + 1)):
        digest = store.put(content)
        damage(path_of(store, digest))
        assert store.put(content) == digest
        assert store.get(digest) == content


def test_missing_object_is_not_found(store: Repository, tmp_path: Path) -> None:
    """Every way to read an object that is nowhere raises, and leaves no file."""
    digest = digest_of(b"absent")
    for read in (store.get, store.delete, lambda digest: list(store.stream(digest))):
        with pytest.raises(NotFoundError):
            read(digest)
    with pytest.raises(NotFoundError):
        store.get_range(digest, 0, 1)
    with pytest.raises(NotFoundError):
        store.export(digest, tmp_path / "target")
    assert not store.has(digest)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("text", ["", "abc", "../../etc/passwd", "A" * 64, "a" * 63 + "\n"])
def test_only_digests_and_keys_are_looked_up(store: Repository, text: str) -> None:
    """What is no digest or key is refused before anything is looked for."""
    for look in (store.get, store.has, store.delete, lambda each: list(store.stream(each))):
        with pytest.raises(FormatError):
            look(text)  # type: ignore[arg-type] # that is the point
    for find in (store.entry, store.read_entry, store.forget, lambda each: store.put_entry(each, b"")):
        with pytest.raises(FormatError):
            find(Key(text))
    assert list(store.objects()) == []


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, -1)])
def test_range_lies_forward(store: Repository, start: int, length: int) -> None:
    """A range that would count from the end is refused."""
    digest = store.put(b"content")
    with pytest.raises(ConfigError):
        store.get_range(digest, start, length)


def test_delete(store: Repository) -> None:
    """The only copy is deleted by force alone; then it is gone from the index and the disk."""
    digest = store.put(b"content")
    with pytest.raises(NotEnoughCopiesError, match="only here"):
        store.delete(digest)
    assert store.get(digest) == b"content"
    store.delete(digest, force=True)
    assert not store.has(digest)
    assert files(store.path, "objects") == {}
    assert store.sizes().objects == 0


def test_deleted_object_comes_back_from_a_remote(store: Repository, folder_url: str) -> None:
    """What a remote holds may be deleted here, and is fetched when it is next read."""
    digest = store.put(b"content")
    store.push(folder_url)
    store.delete(digest)
    assert not store.has(digest)
    assert store.get(digest) == b"content"


def test_interrupted_export_leaves_the_old_file(store: Repository, tmp_path: Path) -> None:
    """A file that was to be replaced stays as it was when the object turns out bad on the way."""
    digest = store.put(noise(3 * FRAME_SIZE))
    damage(path_of(store, digest), -100)
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with pytest.raises(NotFoundError):
        store.export(digest, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "target"]


# Bad objects


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_bad_object_is_an_error_and_in_quarantine(store: Repository, large: bool, harm: str) -> None:
    """An object whose file went bad is never given out: it is no longer believed in, and kept aside."""
    content = noise(2 * FRAME_SIZE if large else 50)
    digest = store.put(content)
    path = path_of(store, digest)
    _harm(path, harm)
    with pytest.raises((IntegrityError, NotFoundError)):
        store.get_range(digest, len(content) - 1, 1)
    assert not store.has(digest)
    assert not path.exists()
    assert len(files(store.path, "quarantine")) == (harm != "remove")
    with pytest.raises(NotFoundError):
        store.get(digest)
    assert store.put(content) == digest
    assert store.get(digest) == content


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
@pytest.mark.parametrize("read", ["get", "stream", "get_range", "export"])
def test_bad_object_is_fetched_again(
    store: Repository, folder_url: str, tmp_path: Path, large: bool, harm: str, read: str
) -> None:
    """Where a remote holds the object, every way to read it heals it."""
    content = noise(2 * FRAME_SIZE + 100 if large else 50)
    digest = store.put(content)
    store.push(folder_url)
    _harm(path_of(store, digest), harm)
    if read == "get":
        assert store.get(digest) == content
    elif read == "stream":
        assert b"".join(store.stream(digest)) == content
    elif read == "get_range":
        assert store.get_range(digest, len(content) - 1, 1) == content[-1:]
    else:
        store.export(digest, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == content
    assert store.has(digest)
    assert store.verify().failures == ()


def _harm(path: Path, harm: str) -> None:
    if harm == "flip":
        damage(path, -50)  # in the last frame
    elif harm == "cut":
        os.truncate(path, path.stat().st_size - 20)
    else:
        path.unlink()


def test_bad_answer_is_fetched_again(store: Repository, folder_url: str) -> None:
    """An entry whose object went bad is answered from a remote that holds it."""
    fill(store, [1])
    store.push(folder_url)
    damage(path_of(store, digest_of(answer(1))))
    assert store.read_entry(key(1))[1] == answer(1)
    assert len(files(store.path, "quarantine")) == 1


def test_bad_answer_without_a_remote_is_a_miss(store: Repository) -> None:
    """An entry whose only object went bad is not found, and the next answer stands in its place."""
    fill(store, [1])
    damage(path_of(store, digest_of(answer(1))))
    with pytest.raises(NotFoundError):
        store.read_entry(key(1))
    entry = store.put_entry(key(1), b"another answer")
    assert entry.generation == 1
    assert store.read_entry(key(1)) == (entry, b"another answer")


def test_doubt_looks_again(store: Repository) -> None:
    """An object that turns out good stays, with its mark, and with what is now known of it."""
    digest = store.put(noise(FRAME_SIZE + 1))
    known = store.local.index.known(digest)
    store.local.doubt(digest)
    assert store.local.index.known(digest) == known
    assert [info.kept for info in store.objects()] == [True]


# Entries


def test_first_answer_stands(store: Repository) -> None:
    """A second answer to a key does not replace the first, whose entry is returned."""
    first = store.put_entry(key(1), b"first", labels={"n": 1}, refs=[b"request"])
    assert (first.generation, first.labels, first.refs) == (0, {"n": 1}, (digest_of(b"request"),))
    assert store.put_entry(key(1), b"second", labels={"n": 2}) == first
    assert store.read_entry(key(1)) == (first, b"first")
    assert store.entry(key(1)) == first
    assert store.get(first.refs[0]) == b"request"


def test_an_answer_may_be_older_than_its_entry_and_not_younger(store: Repository) -> None:
    """What was given elsewhere has the time that is told; one that is yet to come is now."""
    assert store.put_entry(key(1), b"old", created=7).created == 7
    assert 7 < store.put_entry(key(2), b"from the future", created=2**52).created < 2**42


def test_answer_that_lost_goes_first(opened: Open) -> None:
    """The object of an answer that did not stand is the first to be evicted, the standing one is not."""
    store = opened(max_size=150)
    store.put_entry(key(1), noise(100, 1))
    store.put_entry(key(1), noise(100, 2))
    store.put_entry(key(1), noise(100, 1))
    store.flush()
    store.evict()
    assert [info.digest for info in store.objects()] == [digest_of(noise(100, 1))]
    assert store.read_entry(key(1))[1] == noise(100, 1)


def test_replace_makes_a_generation(store: Repository) -> None:
    """A refresh wins over what stood, each time with one generation more."""
    fill(store, [1])
    entries = [store.put_entry(key(1), answer(1, version), replace=True) for version in (1, 2)]
    assert [entry.generation for entry in entries] == [1, 2]
    assert store.read_entry(key(1)) == (entries[1], answer(1, 2))


def test_forget(store: Repository) -> None:
    """A forgotten entry is not found, listed or resolved; a new answer stands above the tombstone."""
    fill(store, [1, 2])
    store.forget(key(1))
    for find in (store.entry, store.read_entry, store.forget, store.resolve):
        with pytest.raises(NotFoundError):
            find(key(1))
    assert answers(store) == {key(2): answer(2)}
    assert store.sizes().entries == 1
    assert store.put_entry(key(1), b"again").generation == 1
    assert store.read_entry(key(1))[1] == b"again"


def test_forgetting_what_is_not_there(store: Repository) -> None:
    """Only an entry can be forgotten."""
    with pytest.raises(NotFoundError):
        store.forget(key(1))


@pytest.mark.parametrize("prefix", ["", "abc", "xyz1", "ABCD", "a" * 65, "../.."])
def test_prefix_is_hex(store: Repository, prefix: str) -> None:
    """A key is resolved from at least four hex digits."""
    with pytest.raises(ConfigError, match="4 to 64 hex digits"):
        store.resolve(prefix)


def test_labels_and_refs_have_bounds(store: Repository) -> None:
    """An entry with too much beside its answer is refused before anything is stored."""
    with pytest.raises(ConfigError, match="labels"):
        store.put_entry(key(1), b"", labels={"x": "y" * 70_000})
    with pytest.raises(ConfigError, match="refs"):
        store.put_entry(key(1), b"", refs=[b""] * 1025)
    assert files(store.path, "objects") == {}


def test_large_answer(store: Repository) -> None:
    """An answer of several frames is stored and read like any other."""
    content = noise(2 * FRAME_SIZE + 1)
    store.put_entry(key(1), content)
    assert store.read_entry(key(1))[1] == content


def test_evicted_between_put_and_claim(store: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is evicted while an entry that needs it is put is there in the end."""
    store.put_entry(key(1), b"shared")
    put = store.local.objects.put

    def evict_meanwhile(connection: object, claim: object) -> None:
        path_of(store, digest_of(b"shared")).unlink(missing_ok=True)

    monkeypatch.setattr("casstore.repo.local.put_claim", evict_meanwhile)
    store.put_entry(key(2), b"shared")
    monkeypatch.undo()
    assert put == store.local.objects.put
    assert path_of(store, digest_of(b"shared")).exists()


def test_full_disk_stores_nothing_half(store: Repository) -> None:
    """Where the disk is full a put fails as a whole, and the store is as it was."""
    fill(store, [1])
    faulty = FaultyBackend(store.local.backend)
    use_backend(store, faulty)
    faulty.fill_up(10)
    with pytest.raises(BackendError):
        store.put_entry(key(2), noise(1000))
    with pytest.raises(BackendError):
        store.put(noise(1000))
    assert answers(store) == {key(1): answer(1)}
    assert list((store.path / "tmp").iterdir()) == []
    faulty.heal()
    fill(store, [2])
    assert store.verify().failures == ()


# The store


def test_open_makes_a_private_store(opened: Open) -> None:
    """A new store has its marker and folders for its owner alone."""
    path = opened().path
    assert path.stat().st_mode & 0o777 == 0o700
    assert {each.name for each in path.iterdir()} >= {"casstore.json", "index.sqlite"}
    assert all(each.stat().st_mode & 0o077 == 0 for each in path.rglob("*"))


def test_open_without_creating(tmp_path: Path) -> None:
    """Where there is no store and none is to be begun, nothing is made."""
    with pytest.raises(NotFoundError, match="casstore init"):
        Repository.open(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()


def test_store_of_a_later_version_is_refused(opened: Open) -> None:
    """A store that needs a later casstore is not touched."""
    path = opened().path
    marker = path / "casstore.json"
    marker.write_text(marker.read_text().replace('"version":1', '"version":2'))
    with pytest.raises(FormatError, match="upgrade casstore"):
        Repository.open(path)


def test_context_manager_and_reopening(opened: Open) -> None:
    """What was put before closing is there after opening again."""
    with opened() as store:
        fill(store, range(3))
        digest = store.put(b"by hand")
    again = opened()
    assert answers(again) == {key(number): answer(number) for number in range(3)}
    assert again.get(digest) == b"by hand"
    assert [path.suffix for path in (again.path / "journal").iterdir()] == [".done"]


def test_long_journal_is_sealed_at_closing(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is never pushed turns its journal into a segment when that has grown."""
    monkeypatch.setattr(module, "SEAL_AT", 1000)
    with opened() as store:
        fill(store, range(20))
        store.forget(key(0))
        digest = store.put(b"by hand")
    assert list((store.path / "journal").iterdir()) == []
    (name,) = files(store.path, "manifest")
    assert name.startswith("manifest/")
    (store.path / "index.sqlite").unlink()
    again = opened()
    assert answers(again) == {key(number): answer(number) for number in range(1, 20)}
    assert [info.kept for info in again.objects() if info.digest == digest] == [True]


def test_ledger_adds_up(opened: Open) -> None:
    """Counters of one model add up over days, processes and batches."""
    with opened() as store:
        store.tally("openai", "gpt", {"hits": 1, "saved": 0.25})
        store.tally("openai", "gpt", {"hits": 1})
    with opened() as store:
        store.tally("openai", "gpt", {"hits": 1})
        found = {(tally.provider, tally.model, tally.name): tally.value for tally in store.tallies()}
    assert found == {("openai", "gpt", "hits"): 3, ("openai", "gpt", "saved"): 0.25}


def test_uses_are_written_in_batches(store: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last uses reach the index when enough have gathered, not at every hit."""
    monkeypatch.setattr(tiers, "FLUSH_AT", 3)
    fill(store, range(4))
    for number in range(2):
        store.read_entry(key(number))
    assert store.local.index.collected() == 2
    store.tally("a", "b", {"hits": 1})
    assert store._flushing is not None
    store._flushing.join()
    assert store.local.index.collected() == 0


# What it takes


def test_a_hit_takes_one_statement_and_a_put_seven(store: Repository) -> None:
    """The index is asked no more than it must be; its size once in a thousandth of the cap."""
    fill(store, [1])
    statements: list[str] = []
    with store.local.index.reading() as connection:
        connection.set_trace_callback(statements.append)
    store.read_entry(key(1))
    store.peek_entry(key(1))
    assert len(statements) == 2
    statements.clear()
    store.put_entry(key(2), answer(2))
    assert len(set(statements)) == 7  # each trigger tells of the statement that set it off once more


# At hand


def test_what_is_here_is_at_hand(store: Repository) -> None:
    """An entry of the local store is given like any other read, and counts as a use."""
    fill(store, [1])
    assert store.peek_entry(key(1)) == store.read_entry(key(1))
    assert store.local.index.collected() == 1


def test_what_would_take_waiting_is_not_at_hand(store: Repository) -> None:
    """No entry, one that was ended, a large answer, a damaged one, and whatever while the index is in use."""
    fill(store, [1, 2, 3])
    store.put_entry(key(4), noise(tiers.AT_HAND + 1))
    store.forget(key(2))
    damage(path_of(store, store.entry(key(3)).object))
    assert [store.peek_entry(key(number)) for number in (2, 3, 4, 5)] == [None] * 4

    busy, done = threading.Event(), threading.Event()

    def use() -> None:
        with store.local.index.writing():
            busy.set()
            done.wait()

    thread = threading.Thread(target=use)
    thread.start()
    busy.wait()
    assert store.peek_entry(key(1)) is None
    done.set()
    thread.join()
    assert store.peek_entry(key(1)) is not None


# Fetching on demand


def test_fetch_costs_one_request(
    store: Repository, opened: Open, requests_log: Server, bucket: object
) -> None:
    """Once the manifest is known, an entry that is not here costs one GET, and nothing the second time."""
    url = getattr(bucket, "url", "")
    fill(store, range(5))
    large = store.put(noise(PART_SIZE + MIB))
    store.push(url)
    other = opened("other")
    other.pull(url, manifest_only=True)
    assert other.sizes().objects == 0
    again = opened("other")
    requests_log.clear()
    assert again.read_entry(key(3))[1] == answer(3)
    assert requests_log.verbs() == {"GET": 1}
    assert again.read_entry(key(3))[1] == answer(3)
    assert requests_log.verbs() == {"GET": 1}
    assert again.get_range(large, PART_SIZE, 3) == noise(PART_SIZE + MIB)[PART_SIZE:][:3]
    assert requests_log.verbs() == {"GET": 2}


def test_failing_remote_is_left_alone(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote that failed is not asked for single objects again until a minute has passed."""
    fill(store, range(3))
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url, manifest_only=True)
    remote = other.remote(folder_url)
    faulty = FaultyBackend(remote.backend)
    faulty.fail("read_range", times=100)
    remote.backend = faulty
    backend = record_remote(other, folder_url)
    for number in range(3):
        with pytest.raises(BackendError):
            other.read_entry(key(number))
    assert len(backend.calls) == 1
    faulty.heal()
    monkeypatch.setattr(tiers, "REMOTE_PAUSE", 0.0)
    other._paused.clear()
    assert other.read_entry(key(0))[1] == answer(0)


@pytest.mark.parametrize("harm", ["remove", "spoil"])
def test_object_that_the_remote_lost_is_a_miss(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path, harm: str
) -> None:
    """An object whose pack is missing or bad in the remote is not found, and the belief in it is gone."""
    fill(store, [1])
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url, manifest_only=True)
    (pack,) = (tmp_path / "remote" / name for name in files(tmp_path / "remote", "packs"))
    pack.unlink() if harm == "remove" else pack.write_bytes(b"\xff" * pack.stat().st_size)
    with pytest.raises(NotFoundError):
        other.read_entry(key(1))
    backend = record_remote(other, folder_url)
    with pytest.raises(NotFoundError):
        other.read_entry(key(1))
    assert backend.calls == []
    assert other.put_entry(key(1), b"new").generation == 1

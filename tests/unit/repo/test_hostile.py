"""Hostile segments in a remote: refused with a clear error, they change nothing and stop nobody else."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from casstore.catalog import segment as segment_module
from casstore.catalog.records import encode_record
from casstore.catalog.segment import HEADER, read_segment
from casstore.digest import Digest, digest_of
from casstore.errors import NotFoundError
from casstore.repo import manifest as manifest_module
from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE, Codec, seal
from casstore.store.layout import digest_in
from casstore.store.pack import Contents, Pack, read_pack
from casstore.store.sealed import write_sealed
from tests.doubles import Crash, CrashingBackend
from tests.stores import answer, answers, dump, files, fill, key, noise, record_remote
from tests.unit.repo.conftest import Open

ENTRY: dict[str, Any] = {
    "kind": "entry",
    "key": key(66),
    "object": digest_of(b"evil"),
    "generation": 0,
    "created": 0,
    "labels": {},
}
LOCATION: dict[str, Any] = {"kind": "location", "object": digest_of(b"evil"), "size": 4, "stored": 25}


def lines(*records: dict[str, Any] | bytes) -> bytes:
    """Return the content of a segment, a good record first."""
    good = {**ENTRY, "key": key(77)}
    texts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (good, *records)]
    return b"\n".join([HEADER, *texts, b""])


def sealed(content: bytes) -> tuple[str, bytes]:
    """Return the right name and the file of a well-sealed segment with any content."""
    file = io.BytesIO()
    known = write_sealed(io.BytesIO(content), file, Codec())
    return known.digest, file.getvalue()


def of(*records: dict[str, Any] | bytes) -> Callable[[], tuple[str, bytes]]:
    """Return what makes a well-sealed segment with these records."""
    return lambda: sealed(lines(*records))


HOSTILE: dict[str, Callable[[], tuple[str, bytes]]] = {
    "bad digest": of({**ENTRY, "object": "xyz"}),
    "path in place of a digest": of({**ENTRY, "object": "../../../etc/passwd"}),
    "path in place of a key": of({**ENTRY, "key": "/etc/passwd"}),
    "path among refs": of({**ENTRY, "refs": ["../../x"]}),
    "path in a location": of({**LOCATION, "object": "../" * 21 + "x"}),
    "huge size": of({**LOCATION, "size": 2**80}),
    "negative size": of({**LOCATION, "size": -1}),
    "huge generation": of({**ENTRY, "generation": 10**30}),
    "NaN": of(b'{"kind":"entry","generation":NaN}'),
    "infinite": of(b'{"kind":"entry","generation":1e999}'),
    "deep": of(b'{"kind":"entry","labels":' + b"[" * 100_000),
    "unknown kind": of({"kind": "delete-everything"}),
    "wrong types": of({**ENTRY, "labels": "none"}),
    "not JSON": of(b"rm -rf /"),
    "pack": of({**LOCATION, "pack": digest_of(b"")}),
    "wrong version": lambda: sealed(b'{"kind":"segment","version":99}\n'),
    "no header": lambda: sealed(json.dumps(ENTRY).encode() + b"\n"),
    "missing newline": lambda: sealed(lines()[:-1]),
    "not sealed": lambda: (sealed(lines())[0], sealed(lines())[1][:-12]),
    "junk": lambda: (digest_of(b"junk"), b"junk"),
    "empty": lambda: (digest_of(b""), b""),
    "another's name": lambda: (digest_of(b"other"), sealed(lines())[1]),
    "pickle": lambda: sealed(b"\x80\x04cos\nsystem\n(S'false'\ntR."),
}


@pytest.fixture
def remote(opened: Open, folder_url: str, tmp_path: Path) -> Path:
    """Return the folder of a remote with two good segments."""
    source = opened("source")
    for number in range(2):
        fill(source, [number])
        source.push(folder_url)
    return tmp_path / "remote"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_segment_is_refused(store: Repository, remote: Path, folder_url: str, name: str) -> None:
    """It is reported under its name, none of its records is taken over, and the others arrive."""
    digest, content = HOSTILE[name]()
    (remote / "manifest" / f"{digest}.zst").write_bytes(content)
    report = store.pull(folder_url)
    (failure,) = report.failures
    assert failure.name == f"manifest/{digest}.zst"
    assert 10 < len(failure.reason) < 400
    assert answers(store) == {key(0): answer(0), key(1): answer(1)}
    assert f"manifest/{digest}.zst" not in files(store.path, "manifest")
    assert files(store.path, "tmp") == {}
    assert store.verify().failures == ()


@pytest.mark.parametrize("name", ["path in place of a digest", "unknown kind", "not sealed", "NaN"])
def test_refusing_changes_nothing(store: Repository, remote: Path, folder_url: str, name: str) -> None:
    """With a hostile segment as the only news, index and files are the same before and after."""
    store.pull(folder_url)
    store.flush()
    before = dump(store.path), files(store.path, "manifest"), files(store.path, "objects")
    digest, content = HOSTILE[name]()
    (remote / "manifest" / f"{digest}.zst").write_bytes(content)
    for operation in (store.pull, store.push, store.status):
        operation(folder_url)
        store.flush()
        after = dump(store.path), files(store.path, "manifest"), files(store.path, "objects")
        assert after == before
    assert len(store.status(folder_url).push.failures) == 1
    assert len(store.push(folder_url).failures) == 1


def test_segment_that_unfolds_is_given_up(
    store: Repository, remote: Path, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file that unfolds beyond the bound on segments is refused at the bound."""
    for module in (segment_module, manifest_module):
        monkeypatch.setattr(module, "SEGMENT_MAX", 4 * FRAME_SIZE)
    bomb = seal(Codec().compress(b"\n" * FRAME_SIZE) * 100)
    (remote / "manifest" / f"{digest_of(b'bomb')}.zst").write_bytes(bomb)
    (failure,) = store.pull(folder_url).failures
    assert "more content than it may" in failure.reason
    assert len(answers(store)) == 2


def test_segment_that_is_too_large_is_not_fetched(
    store: Repository, remote: Path, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file above the bound is refused by its size in the listing."""
    monkeypatch.setattr(manifest_module, "SEGMENT_MAX", 1000)
    (remote / "manifest" / f"{digest_of(b'large')}.zst").write_bytes(bytes(1001))
    backend = record_remote(store, folder_url)
    (failure,) = store.pull(folder_url).failures
    assert "1001 bytes" in failure.reason
    assert failure.name not in {call.name for call in backend.calls}


def test_location_that_lies_costs_nothing_but_a_failure(
    store: Repository, remote: Path, folder_url: str
) -> None:
    """Where a segment lies about an object's size or place, the object is reported and nothing is stored."""
    small, large = b"true", digest_of(b"nowhere")
    (remote / "objects/0/0").mkdir(parents=True, exist_ok=True)
    records = []
    for number, (size, stored) in enumerate([(3, 20), (2**52, 2**52), (2**52, 1), (4, 2**52)]):
        digest = digest_of(small + bytes([number]))
        path = remote / "objects" / digest[0] / digest[1] / f"{digest}.zst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seal(Codec().compress(small)))
        records.append({**LOCATION, "object": digest, "size": size, "stored": stored, "kept": True})
    records.append({**LOCATION, "object": large, "size": 2**52, "stored": 1000, "kept": True})
    name, content = sealed(lines(*records))
    (remote / "manifest" / f"{name}.zst").write_bytes(content)
    store._max_size = 2**62
    report = store.pull(folder_url)
    assert {failure.name for failure in report.failures} == {record["object"] for record in records}
    assert report.objects == 2
    assert files(store.path, "tmp") == {}
    with pytest.raises(NotFoundError):
        store.get(large)
    assert store.verify().failures == ()


@pytest.mark.parametrize(
    "last", [ENTRY, {"kind": "kept", "object": digest_of(b"evil")}], ids=["of an entry", "put by hand"]
)
def test_pack_that_does_not_hold_all_it_should(
    opened: Open, store: Repository, tmp_path: Path, last: dict[str, Any]
) -> None:
    """Where a segment lists an object in a pack that the pack does not hold, that one alone is reported."""
    url = (tmp_path / "remote").as_uri()
    source = opened("source")
    fill(source, range(40))
    source.push(url)
    (segment,) = (tmp_path / "remote" / "manifest").iterdir()
    pack = next(
        record for record in read_segment(segment, digest_in(segment.name)) if isinstance(record, Pack)
    )
    inside = pack.contents
    more = Contents(None, [*inside.digests, digest_of(b"evil")], [*inside.sizes, 4], [*inside.lengths, 25])
    told = encode_record(dataclasses.replace(pack, contents=more))
    name, content = sealed(b"\n".join([HEADER, told, json.dumps(last).encode(), b""]))
    (tmp_path / "remote" / "manifest" / f"{name}.zst").write_bytes(content)
    report = store.pull(url)
    assert [failure.name for failure in report.failures] == [digest_of(b"evil")]
    assert f"it is not in pack {pack.digest}" in report.failures[0].reason
    assert {name: content for name, content in answers(store).items() if content is not None} == {
        key(number): answer(number) for number in range(40)
    }
    assert store.pull(url).failures == ()


def _lie(remote: Path, padding: int = 0, *, members: int = 20, more: bytes = b"", stored: int = 0) -> None:
    """Plant a segment that tells of the remote's largest pack with other members, or another length."""
    file = max((path for path in (remote / "packs").rglob("*") if path.is_file()), key=_size)
    pack = read_pack(file, Digest(file.name.partition(".")[0]))
    inside = pack.contents
    contents = Contents(
        inside.dictionary,
        [*inside.digests[:members], *([digest_of(more)] if more else [])],
        [*inside.sizes[:members], *([len(more)] if more else [])],
        [*inside.lengths[:members], *([50] if more else [])],
    )
    told = encode_record(Pack(pack.digest, pack.stored + stored, contents))
    entries = [
        {**ENTRY, "key": key(1000 + each), "labels": {"x": noise(300, each).hex()}} for each in range(padding)
    ]
    name, content = sealed(b"\n".join([HEADER, *(json.dumps(each).encode() for each in entries), told, b""]))
    (remote / "manifest" / f"{name}.zst").write_bytes(content)


def _size(path: Path) -> int:
    return path.stat().st_size


def test_what_a_pack_is_only_said_to_hold_is_not_here(
    opened: Open, store: Repository, folder_url: str, tmp_path: Path
) -> None:
    """Nobody makes a store take an answer for stored that it has not: it is written when it is put."""
    source = opened("source")
    fill(source, range(20))
    source.push(folder_url)
    _lie(tmp_path / "remote", padding=40, more=answer(99))
    store.pull(folder_url)
    assert not store.has(digest_of(answer(99)))
    store.put_entry(key(99), answer(99))
    assert store.read_entry(key(99))[1] == answer(99)


def test_a_length_that_is_a_lie_condemns_no_pack(
    opened: Open, store: Repository, folder_url: str, tmp_path: Path
) -> None:
    """A collection believes the pack itself."""
    fill(store, range(20))
    store.push(folder_url)
    _lie(tmp_path / "remote", stored=1)
    other = opened("other")
    other.pull(folder_url)
    report = other.gc(folder_url)
    assert (report.missing, report.failures) == (0, ())
    assert other.push(folder_url).objects == 0


def test_half_the_truth_about_an_upload_is_not_enough(
    opened: Open, store: Repository, folder_url: str, tmp_path: Path
) -> None:
    """What a push that died had uploaded is told by the next, though another's segment told a part of it."""
    other = opened("other")
    fill(other, [500])
    other.push(folder_url)
    fill(store, range(20))
    remote = store.remote(folder_url)
    inner = remote.backend
    remote.backend = CrashingBackend(inner, 1)
    with pytest.raises(Crash):
        store.push(folder_url)
    remote.backend = inner
    _lie(tmp_path / "remote", members=1)
    store.push(folder_url)
    newcomer = opened("newcomer")
    newcomer.pull(folder_url, manifest_only=True)
    found = answers(newcomer)
    assert {number: found[key(number)] for number in range(20)} == {
        number: answer(number) for number in range(20)
    }


def test_last_generation_is_the_last(store: Repository, remote: Path, folder_url: str) -> None:
    """A claim of the last generation cannot make a later answer wrap around or fail to be written."""
    digest, content = sealed(lines({**ENTRY, "generation": 2**53 - 1}))
    (remote / "manifest" / f"{digest}.zst").write_bytes(content)
    assert store.pull(folder_url).failures == ()
    assert store.entry(key(66)).generation == 2**53 - 1
    with pytest.raises(ValueError, match="last generation"):
        store.put_entry(key(66), b"mine", replace=True)
    assert store.verify().failures == ()

"""Objects on a backend: put, whole and ranged reads, and what each costs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.backends.local import LocalBackend
from casstore.digest import digest_of
from casstore.errors import CasstoreError, IntegrityError, NotFoundError
from casstore.store.codec import FRAME_SIZE, Codec, seal
from casstore.store.dictionaries import Dictionaries
from casstore.store.objects import ObjectStore
from casstore.store.sealed import Stored
from tests.doubles import RecordingBackend
from tests.stores import damage, noise


@pytest.fixture
def backend(tmp_path: Path) -> RecordingBackend:
    """Return the folder of a store, each call written down."""
    return RecordingBackend(LocalBackend(tmp_path))


@pytest.fixture
def objects(backend: RecordingBackend, tmp_path: Path) -> ObjectStore:
    """Return the objects of an empty store."""
    return opened(backend, tmp_path)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, Stored]:
    """Return a folder with one object of four frames, its content, and what is known of it."""
    folder = tmp_path_factory.mktemp("large")
    content = noise(FRAME_SIZE) + bytes(FRAME_SIZE) + noise(FRAME_SIZE, 1) + b"the end"
    return folder, content, opened(LocalBackend(folder), folder).put(content)


def opened(backend: LocalBackend | RecordingBackend, folder: Path) -> ObjectStore:
    """Return the objects on a backend."""
    return ObjectStore(backend, (1, 1), Codec(), folder, Dictionaries(backend, (1, 1)))


@given(content=st.binary(max_size=5000))
@settings(max_examples=50, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """What is put is got, whole, streamed, and named by its digest."""
    folder = tmp_path_factory.mktemp("objects")
    objects = opened(LocalBackend(folder), folder)
    known = objects.put(content)
    digest = digest_of(content)
    assert known.digest == digest
    assert objects.get(known) == b"".join(objects.stream(known)) == content
    assert (folder / "objects" / digest[0] / digest[1] / f"{digest}.zst").stat().st_size == known.stored


def test_small_object_costs_one_write_and_one_read(objects: ObjectStore, backend: RecordingBackend) -> None:
    """Up to 4 MiB a put is one write, and every kind of read is one read."""
    known = objects.put(bytes(FRAME_SIZE))
    objects.get(known)
    list(objects.stream(known))
    objects.get_range(known, 5, 10)
    assert [call.operation for call in backend.calls] == ["write", "read", "read", "read"]


def test_encode_leaves_no_spool_file(objects: ObjectStore, tmp_path: Path) -> None:
    """The spool file of an object that is not wanted in the end is gone."""
    with objects.encode(io.BytesIO(noise(100))) as (known, path):
        assert path.stat().st_size == known.stored
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("start", "length", "frames"),
    [
        (0, 1, 1),
        (FRAME_SIZE - 1, 1, 1),
        (FRAME_SIZE - 1, 2, 2),
        (FRAME_SIZE, FRAME_SIZE, 1),
        (10, 2 * FRAME_SIZE, 3),
        (3 * FRAME_SIZE, 7, 1),
        (3 * FRAME_SIZE + 2, 1000, 1),
        (0, 1 << 60, 4),
        (3 * FRAME_SIZE + 7, 5, 0),
        (1 << 60, 5, 0),
        (5, 0, 0),
    ],
)
def test_range_reads_only_its_frames(
    large: tuple[Path, bytes, Stored], start: int, length: int, frames: int
) -> None:
    """A range costs one ranged read for each frame it touches, and gives what a slice gives."""
    folder, content, known = large
    backend = RecordingBackend(LocalBackend(folder))
    assert opened(backend, folder).get_range(known, start, length) == content[start : start + length]
    assert [call.operation for call in backend.calls] == ["read_range"] * frames


def test_large_object_streams_frame_by_frame(large: tuple[Path, bytes, Stored]) -> None:
    """A stream gives pieces of 4 MiB, each read when it is asked for."""
    folder, content, known = large
    backend = RecordingBackend(LocalBackend(folder))
    stream = opened(backend, folder).stream(known)
    assert next(stream) == content[:FRAME_SIZE]
    assert len(backend.calls) == 1
    assert b"".join(stream) == content[FRAME_SIZE:]
    assert len(backend.calls) == 4
    assert opened(backend, folder).get(known) == content


@pytest.mark.parametrize("frame", range(4))
def test_damage_shows_in_the_frame_it_hits(
    large: tuple[Path, bytes, Stored], tmp_path: Path, frame: int
) -> None:
    """A bad frame is never given out; the frames before it are, and ranges elsewhere still read."""
    folder, content, known = large
    assert known.frames is not None
    name = f"objects/{known.digest[0]}/{known.digest[1]}/{known.digest}.zst"
    backend = LocalBackend(tmp_path)
    backend.write(name, (folder / name).read_bytes())
    damage(tmp_path / name, sum(known.frames.stored[:frame]) + known.frames.stored[frame] // 2)
    objects = opened(backend, tmp_path)
    given_out: list[bytes] = []
    with pytest.raises(IntegrityError):
        given_out.extend(objects.stream(known))
    assert b"".join(given_out) == content[: frame * FRAME_SIZE]
    with pytest.raises(IntegrityError):
        objects.get(known)
    with pytest.raises(IntegrityError):
        objects.get_range(known, frame * FRAME_SIZE, 1)
    other = (frame + 1) % 4
    assert objects.get_range(known, other * FRAME_SIZE, 3) == content[other * FRAME_SIZE :][:3]


def test_frames_that_fit_but_are_not_the_object_are_refused(tmp_path: Path) -> None:
    """Frames that fit their own digests make no object of another digest."""
    objects = opened(LocalBackend(tmp_path), tmp_path)
    other = objects.put(noise(FRAME_SIZE + 1))
    claimed = Stored(digest_of(b"something else"), other.size, other.stored, other.frames)
    (tmp_path / objects.name(claimed.digest)).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / objects.name(other.digest)).rename(tmp_path / objects.name(claimed.digest))
    with pytest.raises(IntegrityError):
        list(objects.stream(claimed))


def test_cut_object_is_an_error(large: tuple[Path, bytes, Stored], tmp_path: Path) -> None:
    """A large object whose file lost its end gives no range beyond it."""
    folder, _, known = large
    backend = LocalBackend(tmp_path)
    objects = opened(backend, tmp_path)
    backend.write(objects.name(known.digest), (folder / objects.name(known.digest)).read_bytes()[:-100])
    with pytest.raises(IntegrityError):
        objects.get_range(known, 3 * FRAME_SIZE, 7)


@given(content=st.binary(max_size=200), position=st.integers(0, 10_000), mask=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, position: int, mask: int
) -> None:
    """Whatever byte of an object's file changes, no content comes out."""
    folder = tmp_path_factory.getbasetemp() / "changed"
    objects = opened(LocalBackend(folder), folder)
    known = objects.put(content)
    path = folder / objects.name(known.digest)
    damage(path, position % known.stored, mask)
    with pytest.raises(IntegrityError):
        objects.get(known)
    with pytest.raises(IntegrityError):
        list(objects.stream(known))


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"junk", id="junk"),
        pytest.param(seal(b""), id="no frame"),
        pytest.param(seal(Codec().compress(b"other")), id="other content"),
        pytest.param(seal(Codec().compress(b"con") + Codec().compress(b"tent")), id="two small frames"),
        pytest.param(Codec().compress(b"content"), id="no seal"),
        pytest.param(seal(seal(Codec().compress(b"content"))), id="two seals"),
    ],
)
def test_file_that_is_no_object_is_refused(objects: ObjectStore, stored: bytes) -> None:
    """A file that casstore would not have written is an integrity error."""
    known = Stored(digest_of(b"content"), 7, len(stored))
    objects.backend.write(objects.name(known.digest), stored)
    with pytest.raises(IntegrityError):
        objects.get(known)


def test_large_bomb_is_stopped_at_the_recorded_size(objects: ObjectStore) -> None:
    """A file of many empty megabytes under the name of a smaller object is given up early."""
    known = Stored(digest_of(b"whatever"), FRAME_SIZE + 1, 1000)
    objects.backend.write(objects.name(known.digest), seal(Codec().compress(bytes(FRAME_SIZE)) * 500))
    with pytest.raises(IntegrityError, match="larger than recorded"):
        objects.get(known)


def test_missing_object_is_not_found(objects: ObjectStore) -> None:
    """An object without a file is a missing key, however it is read."""
    known = Stored(digest_of(b"absent"), 6, 20)
    for read in (objects.get, lambda known: list(objects.stream(known))):
        with pytest.raises(NotFoundError) as caught:
            read(known)
        assert isinstance(caught.value, CasstoreError)


@given(start=st.integers(0, 3 * FRAME_SIZE + 20), length=st.integers(0, 2 * FRAME_SIZE))
@settings(max_examples=25, deadline=None)
def test_ranges_are_slices(large: tuple[Path, bytes, Stored], start: int, length: int) -> None:
    """Any range gives what a slice of the content gives."""
    folder, content, known = large
    found = opened(LocalBackend(folder), folder).get_range(known, start, length)
    assert found == content[start : start + length]

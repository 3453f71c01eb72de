"""Packs: what is written is read, byte for byte the same each time, and nothing else is believed."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.digest import Digest, digest_of
from casstore.errors import BackendError, FormatError, IntegrityError
from casstore.store.codec import FRAME_SIZE, Codec, Dictionary
from casstore.store.pack import (
    PACK_MAX,
    PACK_MEMBERS,
    Pack,
    PackWriter,
    contents_fields,
    decode_member,
    parse_contents,
    read_contents,
    read_pack,
)
from casstore.store.sealed import Place, Stored, create
from tests.stores import damage, noise

CODEC = Codec()
DICTIONARY = Dictionary(b'{"choices":[{"message":{"content":"The answer is "}}],"model":"m-1"}' * 4)
CONTENTS = [b'{"choices":[{"message":{"content":"The answer is %d"}}]}' % number for number in range(20)]


def made(contents: list[bytes], dictionary: Dictionary | None = None) -> tuple[bytes, Pack]:
    """Return the file of a pack, and what it is."""
    file = io.BytesIO()
    writer = PackWriter(file, CODEC, dictionary)
    for content in contents:
        writer.add(digest_of(content), content)
    pack = writer.finish()
    return file.getvalue(), pack


def written(path: Path, contents: list[bytes], dictionary: Dictionary | None = None) -> Pack:
    """Write a pack, and return what it is."""
    with create(path) as file:
        writer = PackWriter(file, CODEC, dictionary)
        for content in contents:
            writer.add(digest_of(content), content)
        return writer.finish()


def with_table(path: Path, fields: object, *, frames: bytes = b"f" * 40) -> Digest:
    """Write a file that is whole in all but what its table of contents says."""
    table = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return with_tail(path, CODEC.compress(table), frames=frames)


def with_tail(path: Path, table: bytes, *, frames: bytes = b"f" * 40, length: int | None = None) -> Digest:
    """Write a file whose table of contents is `table` as stored."""
    tail = table + (len(table) if length is None else length).to_bytes(4, "little") + b"cpk1"
    path.write_bytes(frames + b"\x5d\x2a\x4d\x18" + len(tail).to_bytes(4, "little") + tail)
    return digest_of(path.read_bytes())


@given(contents=st.lists(st.binary(max_size=300), min_size=1, max_size=20, unique=True), packed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], packed: bool) -> None:
    """Every object comes back from its place, with a dictionary or without."""
    path = tmp_path_factory.getbasetemp() / "pack"
    dictionary = DICTIONARY if packed else None
    pack = written(path, contents, dictionary)
    file = path.read_bytes()
    assert pack.stored == len(file)
    assert pack.digest == hashlib.sha256(file).hexdigest()
    assert read_pack(path, pack.digest) == pack
    assert read_contents(path) == pack.contents
    members = list(pack.members())
    assert [known.digest for known in members] == list(map(digest_of, contents))
    for known, content in zip(members, contents, strict=True):
        assert known.place is not None
        assert known.place.dictionary == (dictionary.digest if dictionary else None)
        frame = file[known.place.offset :][: known.stored]
        assert decode_member(frame, known, dictionary) == content


def test_same_objects_make_the_same_pack() -> None:
    """Objects, their order, the dictionary and the level make the bytes of a pack, and nothing else does."""
    first, again = made(CONTENTS, DICTIONARY), made(list(CONTENTS), Dictionary(DICTIONARY.content))
    assert first == again
    assert made(CONTENTS[::-1], DICTIONARY)[1].digest != first[1].digest
    assert made(CONTENTS)[1].digest != first[1].digest


def test_frames_that_are_copied_make_the_same_pack() -> None:
    """A pack of frames taken from another is the one that compressing their contents makes."""
    file, pack = made(CONTENTS, DICTIONARY)
    copy = io.BytesIO()
    writer = PackWriter(copy, CODEC, DICTIONARY)
    for known in pack.members():
        assert known.place is not None
        writer.add_frame(known.digest, known.size, file[known.place.offset :][: known.stored])
    assert len(writer) == len(CONTENTS)
    assert (writer.finish(), copy.getvalue()) == (pack, file)


def test_other_tools_see_the_contents_alone(tmp_path: Path) -> None:
    """The system's zstd decodes a pack with its dictionary, and one frame of it by itself."""
    zstd = shutil.which("zstd")
    if zstd is None:
        pytest.skip("there is no zstd here")
    (tmp_path / "dictionary").write_bytes(DICTIONARY.content)
    pack = written(tmp_path / "pack.zst", CONTENTS, DICTIONARY)
    decode = [zstd, "-dcq", "-D", str(tmp_path / "dictionary")]
    done = subprocess.run([*decode, str(tmp_path / "pack.zst")], capture_output=True, check=True)
    assert done.stdout == b"".join(CONTENTS)
    member = list(pack.members())[7]
    assert member.place is not None
    frame = (tmp_path / "pack.zst").read_bytes()[member.place.offset :][: member.stored]
    assert subprocess.run(decode, input=frame, capture_output=True, check=True).stdout == CONTENTS[7]


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """Whatever bit of a pack's file changes, it is not read as that pack."""
    path = tmp_path / "pack"
    pack = written(path, CONTENTS[:4], DICTIONARY)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good)
        damage(path, position, 1 << position % 8)
        with pytest.raises(IntegrityError):
            read_pack(path, pack.digest)


def test_cut_packs_are_refused(tmp_path: Path) -> None:
    """A pack of any other length is neither read whole nor by its table of contents."""
    path = tmp_path / "pack"
    pack = written(path, CONTENTS[:4], DICTIONARY)
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(IntegrityError):
            read_pack(path, pack.digest)
        with pytest.raises(IntegrityError):
            read_contents(path)
    path.write_bytes(good + b"x")
    with pytest.raises(IntegrityError):
        read_pack(path, pack.digest)
    with pytest.raises(IntegrityError):
        read_contents(path)


GOOD: dict[str, Any] = {"objects": ["a" * 64, "b" * 64], "sizes": [50, 0], "lengths": [30, 10]}


def test_table_made_by_hand_is_read(tmp_path: Path) -> None:
    """A table of contents with fields of a later day is read: what the hostile ones below are made from."""
    digest = with_table(tmp_path / "pack", GOOD | {"later": {"a": 1}})
    pack = read_pack(tmp_path / "pack", digest)
    assert [(known.size, known.stored, known.place) for known in pack.members()] == [
        (50, 30, Place(digest, 0)),
        (0, 10, Place(digest, 30)),
    ]


def test_an_object_may_be_in_a_pack_twice(tmp_path: Path) -> None:
    """A digest that occurs again is no harm: each place holds the object or fails by itself."""
    digest = with_table(tmp_path / "pack", GOOD | {"objects": ["a" * 64] * 2})
    assert [known.digest for known in read_pack(tmp_path / "pack", digest).members()] == ["a" * 64] * 2


HOSTILE: dict[str, object] = {
    "a list": [],
    "a number": 7,
    "null": b"null",
    "not JSON": b"hello",
    "cut JSON": b'{"objects":[',
    "nothing": b"",
    "not UTF-8": b'{"objects":"\xff"}',
    "deep": b"[" * 200_000,
    "deep inside": b'{"objects":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no objects": {"objects": [], "sizes": [], "lengths": []},
    "objects missing": {"sizes": [50, 0], "lengths": [30, 10]},
    "sizes missing": {"objects": ["a" * 64] * 2, "lengths": [30, 10]},
    "too many objects": {
        "objects": ["a" * 64] * (PACK_MEMBERS + 1),
        "sizes": [0] * (PACK_MEMBERS + 1),
        "lengths": [1] * (PACK_MEMBERS + 1),
    },
    "fewer sizes": GOOD | {"sizes": [50]},
    "more lengths": GOOD | {"lengths": [20, 10, 10]},
    "lengths add up to less": GOOD | {"lengths": [29, 10]},
    "lengths add up to more": GOOD | {"lengths": [31, 10]},
    "a frame of nothing": GOOD | {"lengths": [40, 0]},
    "negative length": GOOD | {"lengths": [50, -10]},
    "negative size": GOOD | {"sizes": [-1, 0]},
    "huge size": GOOD | {"sizes": [2**21, 0]},
    "huge length": GOOD | {"lengths": [PACK_MAX + 1, 10]},
    "giant number": GOOD | {"sizes": [10**400, 0]},
    "number beyond 64 bits": GOOD | {"sizes": [2**64, 0]},
    "float": GOOD | {"lengths": [30.0, 10]},
    "boolean": GOOD | {"sizes": [50, False]},
    "text for a number": GOOD | {"sizes": ["50", 0]},
    "null for a number": GOOD | {"sizes": [None, 0]},
    "sizes are an object": GOOD | {"sizes": {"0": 50, "1": 0}},
    "sizes are text": GOOD | {"sizes": "50"},
    "objects are an object": GOOD | {"objects": {"a" * 64: 1, "b" * 64: 2}},
    "objects are text": GOOD | {"objects": "a" * 64},
    "short digest": GOOD | {"objects": ["a" * 64, "b" * 63]},
    "lengths of digests that even out": GOOD | {"objects": ["a" * 65, "b" * 63]},
    "upper case": GOOD | {"objects": ["a" * 64, "B" * 64]},
    "no hex": GOOD | {"objects": ["a" * 64, "g" * 64]},
    "digest with a newline": GOOD | {"objects": ["a" * 64, "b" * 63 + "\n"]},
    "digits of another script": GOOD | {"objects": ["a" * 64, "٣" * 64]},
    "digest that is a path": GOOD | {"objects": ["a" * 64, "../" * 21 + "x"]},
    "digest that is a number": GOOD | {"objects": ["a" * 64, 7]},
    "digest that is a list": GOOD | {"objects": ["a" * 64, ["b" * 64]]},
    "dictionary that is a path": GOOD | {"dictionary": "../../etc/passwd"},
    "dictionary that is a number": GOOD | {"dictionary": 7},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_are_refused(tmp_path: Path, name: str) -> None:
    """A table of contents that cannot be right is refused with a reason, in a pack whose digest fits."""
    digest = with_table(tmp_path / "pack", HOSTILE[name])
    with pytest.raises(IntegrityError) as caught:
        read_pack(tmp_path / "pack", digest)
    assert 20 < len(str(caught.value)) < 300
    with pytest.raises(IntegrityError):
        read_contents(tmp_path / "pack")


TAILS: dict[str, Callable[[Path], Digest]] = {
    "a mark alone": lambda path: with_tail(path, b"", frames=b""),
    "no table": lambda path: with_tail(path, b""),
    "no frame": lambda path: with_tail(path, b"x" * 30),
    "two frames": lambda path: with_tail(path, CODEC.compress(json.dumps(GOOD).encode()) * 2),
    "frame with a dictionary's id": lambda path: with_tail(path, b"\x28\xb5\x2f\xfd\x21\x01\x00" + bytes(9)),
    "length beyond the file": lambda path: with_tail(path, b"x" * 30, length=2**32 - 1),
    "length short by one": lambda path: with_tail(path, CODEC.compress(json.dumps(GOOD).encode()), length=10),
    "a skippable frame in its place": lambda path: with_tail(path, b"\x50\x2a\x4d\x18\x00\x00\x00\x00"),
    "a bomb": lambda path: with_tail(path, _bomb()),
}


def _bomb() -> bytes:
    """Return a frame of a few bytes that claims, and holds, 64 MiB of zeros."""
    blocks = [(1 << 1 | (128 * 1024) << 3).to_bytes(3, "little") + b"\0" for _ in range(512)]
    blocks[-1] = (1 | 1 << 1 | (128 * 1024) << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\xa0" + (64 * 1024 * 1024).to_bytes(4, "little") + b"".join(blocks)


@pytest.mark.parametrize("name", TAILS)
def test_hostile_tails_are_refused(tmp_path: Path, name: str) -> None:
    """What does not end in one well-formed table of contents is no pack, and costs little to refuse."""
    digest = TAILS[name](tmp_path / "pack")
    tracemalloc.start()
    with pytest.raises(IntegrityError):
        read_pack(tmp_path / "pack", digest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * FRAME_SIZE


@given(junk=st.binary(max_size=200), marked=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, junk: bytes, marked: bool) -> None:
    """Whatever a file holds, asking for its table of contents ends with one of our errors."""
    path = tmp_path_factory.getbasetemp() / "junk"
    path.write_bytes(junk + b"cpk1" * marked)
    with pytest.raises(IntegrityError):
        read_contents(path)


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    """A file longer than any pack is refused by its length."""
    path = tmp_path / "pack"
    with path.open("wb") as file:
        file.truncate(PACK_MAX + 1)
    with pytest.raises(IntegrityError, match="at most"):
        read_pack(path, digest_of(b""))


def test_reading_takes_little_memory(tmp_path: Path) -> None:
    """A pack of 16 MiB is verified with a small part of it in memory."""
    pack = written(tmp_path / "pack", [noise(512 * 1024, number) for number in range(32)])
    tracemalloc.start()
    read_pack(tmp_path / "pack", pack.digest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pack.stored > 16 * 1024 * 1024
    assert peak < 4 * 1024 * 1024


def test_missing_packs_are_not_found(tmp_path: Path) -> None:
    """A file that is not there is told as such, so that a caller can tell it from a bad one."""
    with pytest.raises(FileNotFoundError):
        read_pack(tmp_path / "pack", digest_of(b""))
    with pytest.raises(FileNotFoundError):
        read_contents(tmp_path / "pack")


# Members


def member(content: bytes, dictionary: Dictionary | None = None, **change: Any) -> tuple[bytes, Stored]:
    """Return the frame of an object, and what is known of it but for a change."""
    frame = CODEC.compress(content, dictionary)
    known = Stored(digest_of(content), len(content), len(frame))
    return frame, replace(known, **change)


def test_member_that_claims_more_is_refused() -> None:
    """A frame that unfolds to more than its object's size is refused, in bounded memory."""
    frame, known = member(bytes(FRAME_SIZE), size=100)
    with pytest.raises(IntegrityError):
        decode_member(frame, known, None)
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="as casstore writes them"):
        decode_member(_bomb(), known, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < FRAME_SIZE


def test_member_must_be_what_is_recorded() -> None:
    """A frame of another content or size is refused, and so is more than one frame."""
    frame, known = member(b"one answer")
    assert decode_member(frame, known, None) == b"one answer"
    for other, known_ in (
        member(b"one answer", digest=digest_of(b"another")),
        member(b"one answer", size=9),
        (frame + frame, known),
        (frame[:-1], known),
        (b"", known),
    ):
        with pytest.raises(IntegrityError):
            decode_member(other, known_, None)


def test_member_needs_its_own_dictionary() -> None:
    """With another dictionary, or none, a frame is refused and never read as something else."""
    content = CONTENTS[0] * 3
    frame, known = member(content, DICTIONARY)
    assert decode_member(frame, known, DICTIONARY) == content
    other = Dictionary(DICTIONARY.content[::-1])
    for wrong in (None, other):
        with pytest.raises(IntegrityError):
            decode_member(frame, known, wrong)


# Writing


def test_full_disk_is_told(tmp_path: Path) -> None:
    """A pack that does not fit is our error, whether it shows at once, at the end or on closing."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    for size in (10, 100_000):
        with pytest.raises(BackendError, match="the disk is full"):
            written(full, [noise(size)])
    with pytest.raises(BackendError, match="the disk is full"), create(full) as file:
        PackWriter(file, CODEC).add(digest_of(b"x"), b"x")


def test_fields_of_a_table_are_checked_as_in_a_file() -> None:
    """What a record says of a pack passes the same checks as its table of contents."""
    _, pack = made(CONTENTS, DICTIONARY)
    assert parse_contents(contents_fields(pack.contents)) == pack.contents
    assert "dictionary" not in contents_fields(made(CONTENTS)[1].contents)
    with pytest.raises(FormatError):
        parse_contents(contents_fields(pack.contents) | {"sizes": [1]})

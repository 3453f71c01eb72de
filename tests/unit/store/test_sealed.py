"""Sealed files: written from any stream, verified in bounded memory."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.digest import digest_of
from casstore.errors import IntegrityError
from casstore.store.codec import FRAME_SIZE, SEAL_SIZE, Codec, seal
from casstore.store.sealed import UNKNOWN, Stored, claimed_size, contents, examine, write_sealed
from tests.stores import noise

CODEC = Codec()


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time, as pipes and sockets do."""

    def __init__(self, content: bytes, steps: list[int]) -> None:
        super().__init__()
        self._content = io.BytesIO(content)
        self._steps = steps
        self._turn = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return less than asked for."""
        self._turn += 1
        return self._content.read(min(size, self._steps[self._turn % len(self._steps)]))


def written(path: Path, content: bytes) -> Stored:
    """Write content as a sealed file, and return what that says it holds."""
    with path.open("wb") as file:
        return write_sealed(io.BytesIO(content), file, CODEC)


@pytest.mark.parametrize(
    "size", [0, 1, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 2 * FRAME_SIZE, 2 * FRAME_SIZE + 7]
)
def test_round_trip(tmp_path: Path, size: int) -> None:
    """Content of any length comes back in pieces of 4 MiB, and examining the file tells what was written."""
    content = noise(min(size, 1000)) * (size // 1000 + 1)
    content = content[:size]
    path = tmp_path / "file"
    known = written(path, content)
    assert known.digest == digest_of(content)
    assert (known.size, known.stored) == (size, path.stat().st_size)
    assert examine(path, Stored(known.digest, UNKNOWN, 0)) == known
    assert b"".join(contents(path)) == content
    assert claimed_size(path) == size


def test_frames_are_known_where_there_are_several(tmp_path: Path) -> None:
    """Above 4 MiB each frame's length and digest are kept; below there is nothing to keep."""
    content = noise(2 * FRAME_SIZE + 5)
    known = written(tmp_path / "large", content)
    assert known.frames is not None
    assert sum(known.frames.stored) + SEAL_SIZE == known.stored
    assert known.frames.digests == tuple(
        digest_of(content[start : start + FRAME_SIZE]) for start in range(0, len(content), FRAME_SIZE)
    )
    assert written(tmp_path / "small", bytes(FRAME_SIZE)).frames is None


@given(st.binary(min_size=1, max_size=5000), st.lists(st.integers(1, 700), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_short_reads_change_nothing(content: bytes, steps: list[int]) -> None:
    """A stream that gives little at a time makes the same file."""
    whole, dribbled = io.BytesIO(), io.BytesIO()
    known = write_sealed(io.BytesIO(content), whole, CODEC)
    assert write_sealed(Dribble(content, steps), dribbled, CODEC) == known  # type: ignore[arg-type] # a raw stream
    assert dribbled.getvalue() == whole.getvalue()


def test_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """Content from a pipe, which gives 64 KiB at a time, fills whole frames."""
    content = noise(FRAME_SIZE + 100_000)
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(content)

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(reader, "rb", buffering=0) as pipe, (tmp_path / "file").open("wb") as file:
        known = write_sealed(pipe, file, CODEC)
    thread.join()
    assert known.digest == digest_of(content)
    assert known.frames is not None
    assert len(known.frames.stored) == 2


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """Whatever byte of a sealed file changes, examining it fails."""
    path = tmp_path / "file"
    known = written(path, b"an answer that a model gave, and that is the model's answer" * 4)
    good = path.read_bytes()
    for position in range(len(good)):
        for mask in (0x01, 0x80, 0xFF):
            spoilt = bytearray(good)
            spoilt[position] ^= mask
            path.write_bytes(spoilt)
            with pytest.raises(IntegrityError):
                examine(path, known)


@pytest.mark.parametrize("kept", [0, 1, 11, 12, 13, 40])
def test_cut_file_is_refused(tmp_path: Path, kept: int) -> None:
    """A file that ends too early, in its seal or in a frame, fails, also where its size is asked."""
    path = tmp_path / "file"
    known = written(path, noise(60))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(IntegrityError):
        examine(path, known)
    with pytest.raises(IntegrityError):
        claimed_size(path)


def test_longer_file_is_refused(tmp_path: Path) -> None:
    """Bytes behind the seal are no part of a file."""
    path = tmp_path / "file"
    known = written(path, b"content")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(IntegrityError):
        examine(path, known)


@pytest.mark.parametrize("size", [999_999, 1_000_001])
def test_other_size_than_recorded_is_refused(tmp_path: Path, size: int) -> None:
    """Content that fits its digest and not its recorded size is refused."""
    path = tmp_path / "file"
    known = written(path, bytes(1_000_000))
    with pytest.raises(IntegrityError):
        examine(path, Stored(known.digest, size, known.stored))


def test_bomb_is_stopped_at_the_recorded_size(tmp_path: Path) -> None:
    """A few bytes that claim a gigabyte are given up at the first frame beyond the recorded size."""
    path = tmp_path / "bomb"
    frame = CODEC.compress(bytes(FRAME_SIZE))
    path.write_bytes(seal(frame * 256))
    assert path.stat().st_size < 50_000
    with pytest.raises(IntegrityError, match="more content than it may"):
        examine(path, Stored(digest_of(b""), 2 * FRAME_SIZE, 0))
    with pytest.raises(IntegrityError, match="more content than it may"):
        examine(path, Stored(digest_of(b""), UNKNOWN, 0), limit=FRAME_SIZE)

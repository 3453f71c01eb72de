"""The codec: frames within bounds, and seals."""

from __future__ import annotations

import io
import struct
import threading

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.errors import IntegrityError
from casstore.store.codec import (
    FRAME_SIZE,
    SEAL_SIZE,
    Codec,
    Dictionary,
    content_size,
    decompress,
    read_frames,
    seal,
    unseal,
)
from tests.stores import noise

CODEC = Codec()
MAGIC = b"\x28\xb5\x2f\xfd"


def raw_frame(content: bytes, *blocks: bytes, descriptor: int = 0xA0) -> bytes:
    """Return a frame made by hand: single segment, 4 bytes for the size of `content`, then `blocks`."""
    return MAGIC + bytes([descriptor]) + struct.pack("<I", len(content)) + b"".join(blocks)


def block(kind: int, size: int, body: bytes, *, last: bool = True) -> bytes:
    """Return a block of a frame (RFC 8878, section 3.1.1.2)."""
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + body


@given(st.binary(max_size=4096))
@settings(max_examples=100, deadline=None)
def test_round_trip(content: bytes) -> None:
    """What is compressed decompresses to itself, and its frame says its size."""
    frame = CODEC.compress(content)
    assert content_size(frame) == len(content)
    assert decompress(frame) == content


@given(st.lists(st.binary(max_size=300), max_size=6), st.booleans())
@settings(max_examples=100, deadline=None)
def test_many_at_once_make_the_frames_of_each(contents: list[bytes], with_dictionary: bool) -> None:
    """So that a pack is the same, however its objects came together."""
    codec, dictionary = Codec(), Dictionary(b"what contents have in common " * 9) if with_dictionary else None
    expected = [codec.compress(content, dictionary) for content in contents]
    assert codec.compress_each(contents, dictionary) == expected


@pytest.mark.parametrize("size", [0, 1, 1000, 128 * 1024, FRAME_SIZE])
def test_incompressible_content_is_stored_as_it_is(size: int) -> None:
    """Noise takes at most 128 bytes more than itself, in a frame that any zstd reader decodes."""
    content = noise(size)
    frame = CODEC.compress(content)
    assert len(frame) <= size + 128
    with zstandard.ZstdDecompressor().stream_reader(frame) as reader:
        assert reader.read() == content
    assert decompress(frame) == content


def test_frame_has_a_bound() -> None:
    """More than 4 MiB are refused, so that every frame's cost is bounded."""
    with pytest.raises(ValueError, match="at most 4194304 bytes"):
        CODEC.compress(bytes(FRAME_SIZE + 1))


def test_levels_differ_and_read_alike() -> None:
    """Content compressed at any level is read by the same code."""
    content = b"".join(b"line %d of a text that compresses\n" % (number * number) for number in range(5000))
    frames = [Codec(level).compress(content) for level in (1, 19)]
    assert len(frames[1]) < len(frames[0])
    assert [decompress(frame) for frame in frames] == [content, content]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"not a frame at all", id="no magic"),
        pytest.param(MAGIC, id="magic alone"),
        pytest.param(CODEC.compress(b"x" * 1000)[:-1], id="truncated"),
        pytest.param(CODEC.compress(b"x" * 1000) + b"\0", id="trailing byte"),
        pytest.param(CODEC.compress(b"x") + CODEC.compress(b"y"), id="two frames"),
        pytest.param(zstandard.ZstdCompressor(write_checksum=True).compress(b"x"), id="checksum flag"),
        pytest.param(zstandard.ZstdCompressor(write_content_size=False).compress(b"x"), id="no content size"),
        pytest.param(zstandard.ZstdCompressor().compress(bytes(FRAME_SIZE + 1)), id="too much content"),
        pytest.param(raw_frame(bytes(4), block(0, 3, b"abc")), id="claims more than it holds"),
        pytest.param(raw_frame(bytes(2), block(0, 3, b"abc")), id="claims less than it holds"),
        pytest.param(raw_frame(bytes(3), block(3, 3, b"abc")), id="reserved block"),
        pytest.param(MAGIC + b"\xe0" + b"\xff" * 8 + block(1, 3, b"a"), id="claims 2^64 - 1 bytes"),
        pytest.param(MAGIC + b"\xe0" + struct.pack("<Q", 1 << 40) + block(1, 3, b"a"), id="claims 1 TiB"),
        pytest.param(MAGIC + b"\xa3" + b"\x07\0\0\0" + struct.pack("<I", 3) + block(0, 3, b"abc"), id="dict"),
        pytest.param(b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd", id="skippable"),
    ],
)
def test_other_frames_are_refused(frame: bytes) -> None:
    """A frame that casstore would not write is an integrity error, before it costs anything."""
    with pytest.raises(IntegrityError):
        decompress(frame)


def test_bomb_is_stopped_by_its_own_claim() -> None:
    """Blocks that repeat one byte to more than the header claims are refused."""
    many = b"".join(block(1, 128 * 1024, b"a", last=number == 63) for number in range(64))
    with pytest.raises(IntegrityError):
        decompress(raw_frame(bytes(1024), many))


def test_threads_have_contexts_of_their_own() -> None:
    """One codec compresses in many threads at once."""
    wrong: list[int] = []

    def work(seed: int) -> None:
        content = noise(2000, seed) * 20
        wrong.extend(seed for _ in range(50) if decompress(CODEC.compress(content)) != content)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_seal_is_skipped_by_other_readers() -> None:
    """A sealed file is a zstd file: the plain stream decoder reads its content."""
    sealed = seal(CODEC.compress(b"hello") + CODEC.compress(b" world"))
    with zstandard.ZstdDecompressor().stream_reader(sealed, read_across_frames=True) as reader:
        assert reader.read() == b"hello world"


def test_seal_tells_every_flipped_bit() -> None:
    """Whatever bit of a sealed file flips, unsealing it fails."""
    sealed = seal(CODEC.compress(b"some content that compresses, some content that compresses"))
    for position in range(len(sealed)):
        for bit in range(8):
            spoilt = bytearray(sealed)
            spoilt[position] ^= 1 << bit
            with pytest.raises(IntegrityError):
                unseal(bytes(spoilt))


@pytest.mark.parametrize("length", range(SEAL_SIZE + 3))
def test_file_shorter_than_a_frame_is_refused(length: int) -> None:
    """A file cut down to a few bytes is an integrity error."""
    with pytest.raises(IntegrityError):
        unseal(seal(CODEC.compress(b"content"))[:length])


def test_frames_are_told_apart_without_decoding() -> None:
    """Frames one behind another come out as they went in."""
    frames = [
        CODEC.compress(content) for content in (b"", b"a", bytes(FRAME_SIZE), noise(300_000), b"z" * 999)
    ]
    whole = b"".join(frames)
    assert list(read_frames(io.BytesIO(whole + b"behind"), len(whole))) == frames


@given(st.binary(max_size=64), st.integers(0, 200), st.booleans())
@settings(max_examples=300, deadline=None)
def test_frame_walk_ends_on_any_bytes(junk: bytes, cut: int, begins_well: bool) -> None:
    """Walking any bytes yields frames or an integrity error, nothing else."""
    content = (CODEC.compress(b"abc" * 50)[:cut] if begins_well else b"") + junk
    try:
        for frame in read_frames(io.BytesIO(content), len(content)):
            decompress(frame)
    except IntegrityError:
        return
    assert content


def test_endless_blocks_are_refused() -> None:
    """A frame of ever more raw blocks ends where it exceeds what any frame may take."""
    body = block(0, 128 * 1024, bytes(128 * 1024), last=False)
    endless = io.BytesIO(raw_frame(bytes(FRAME_SIZE), *([body] * 40)))
    with pytest.raises(IntegrityError, match="no valid type or length"):
        list(read_frames(endless, 1 << 40))
    assert endless.tell() < FRAME_SIZE + 128 * 1024

"""Compression: content to zstd frames and back, within bounds.  Floor: store.

The only module that imports zstandard. Every frame casstore writes holds at most `FRAME_SIZE` bytes of
content, states its content's size in its header and needs no window beyond it, so a reader knows what a frame
costs before it decodes it, and refuses any other frame. A frame's *stored length* is found by walking its
block headers (RFC 8878, section 3.1.1), without decoding.

Every file of frames ends with a *seal*: a skippable frame with the CRC-32 of all bytes before it. The digest
tells a wrong content; the seal also tells the one flipped bit in three hundred that zstd decodes to the same
content, so that damage to a disk shows before it does harm. Other zstd tools skip the seal.

The frames of a pack may need a dictionary, which the pack names; the frames themselves never do.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, TypeVar

import zstandard

from casstore.digest import Digest, digest_of
from casstore.errors import IntegrityError

C = TypeVar("C")

FRAME_SIZE = 4 * 1024 * 1024
"""Content bytes of every frame of an object but the last."""

DEFAULT_LEVEL = 3
"""zstd's own default: measured on LLM answers, higher levels gain under 3 % for twice the time."""

_HEADER_MIN = 5  # bytes of a header that tell its length: magic (4), descriptor (1)
_RLE_BLOCK = 1
_RESERVED_BLOCK = 3
_BLOCK_HEADER = 3
STORED_MAX = FRAME_SIZE + 64 * 1024
"""Longest frame zstd makes of `FRAME_SIZE` bytes, and room: 32 raw blocks add 96 bytes."""
_SEAL_START = b"\x5c\x2a\x4d\x18\x04\x00\x00\x00"  # magic of a skippable frame, and its length: 4 bytes

SEAL_SIZE = len(_SEAL_START) + 4
"""Bytes of the seal at the end of a file."""


DICTIONARY_SIZE = 64 * 1024
"""Bytes of a dictionary we train: measured on LLM answers, twice as many gain under 1 %."""

DICTIONARY_MAX = 1024 * 1024
"""Bytes of the largest dictionary that is read."""

_TRAINER = {"k": 256, "d": 8, "f": 18, "accel": 1}
"""Settings of zstd's fast COVER trainer: 20 ms for 1,000 samples, and within 0.1 % of the best found.

Left to search for k, it takes 240 ms and finds one for a dictionary of 1 KB (scripts/bench dictionaries).
"""
_CONTEXTS = 8  # dictionaries for which a thread keeps contexts


class Dictionary:
    """What many small contents have in common, so that a frame need not repeat it.

    Args:
        content: What `train` returned; any bytes will do.

    Raises:
        IntegrityError: `content` begins like a dictionary and is none, or is too large.
    """

    def __init__(self, content: bytes) -> None:
        if not 0 < len(content) <= DICTIONARY_MAX:
            raise IntegrityError(f"a dictionary of {len(content)} bytes; 1 to {DICTIONARY_MAX} are allowed")
        self.content = content
        self.digest: Digest = digest_of(content)
        self._data = zstandard.ZstdCompressionDict(content)
        try:
            self.decompressor()
        except zstandard.ZstdError as error:
            raise IntegrityError(f"dictionary {self.digest} is damaged: {error}") from error

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        """Return a new context that compresses with it, for one thread at a time."""
        # The pack names the dictionary; its number in every frame would cost 4 bytes each.
        return zstandard.ZstdCompressor(level=level, dict_data=self._data, write_dict_id=False)

    def decompressor(self) -> zstandard.ZstdDecompressor:
        """Return a new context that decompresses with it, for one thread at a time."""
        return zstandard.ZstdDecompressor(dict_data=self._data)


def train(samples: Sequence[bytes]) -> Dictionary | None:
    """Return a dictionary for contents like `samples`, the same one for the same samples.

    Returns:
        The dictionary, or None where the samples are too few or too small to make one.
    """
    try:
        data = zstandard.train_dictionary(DICTIONARY_SIZE, list(samples), **_TRAINER)
    except zstandard.ZstdError:
        return None
    return Dictionary(data.as_bytes())


class Codec:
    """Compresses at one level; a context is kept for each thread, since it costs more to make than to use."""

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        self._level = level
        self._local = threading.local()

    def compress(self, content: bytes | memoryview, dictionary: Dictionary | None = None) -> bytes:
        """Return one frame that holds `content` (at most `FRAME_SIZE` bytes).

        Content that does not compress is held in raw blocks, a dozen bytes longer than itself.
        """
        _check_size(content)
        frame: bytes = self._compressor(dictionary).compress(content)
        return frame

    def compress_each(self, contents: list[bytes], dictionary: Dictionary | None = None) -> list[bytes]:
        """Return the frame of each content, as `compress` makes it; meanwhile other threads go on."""
        for content in contents:
            _check_size(content)
        if not any(contents):  # zstandard refuses what is nothing in all
            return [self.compress(content, dictionary) for content in contents]
        frames = self._compressor(dictionary).multi_compress_to_buffer([*contents])
        return [frames[position].tobytes() for position in range(len(frames))]

    def _compressor(self, dictionary: Dictionary | None) -> zstandard.ZstdCompressor:
        digest = None if dictionary is None else dictionary.digest
        try:
            compressor: zstandard.ZstdCompressor = self._local.compressors[digest]
        except (AttributeError, KeyError):
            made = (
                zstandard.ZstdCompressor(level=self._level)
                if dictionary is None
                else dictionary.compressor(self._level)
            )
            compressor = _kept(self._local, "compressors", digest, made)
        return compressor


def _check_size(content: bytes | memoryview) -> None:
    if len(content) > FRAME_SIZE:
        raise ValueError(f"a frame holds at most {FRAME_SIZE} bytes, not {len(content)}")


_local = threading.local()


def _kept(local: threading.local, name: str, digest: Digest | None, context: C) -> C:
    """Keep a context for the thread, and return it."""
    contexts: dict[Digest | None, C] = local.__dict__.setdefault(name, {})
    if len(contexts) >= _CONTEXTS:
        contexts.clear()
    contexts[digest] = context
    return context


def decompress(frame: bytes | memoryview, dictionary: Dictionary | None = None) -> bytes:
    """Return the content of one frame.

    Raises:
        IntegrityError: `frame` is not exactly one frame as casstore writes them.
    """
    size = content_size(frame)
    digest = None if dictionary is None else dictionary.digest
    try:
        decompressor = _local.decompressors[digest]
    except (AttributeError, KeyError):
        made = zstandard.ZstdDecompressor() if dictionary is None else dictionary.decompressor()
        decompressor = _kept(_local, "decompressors", digest, made)
    try:
        content: bytes = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"damaged zstd frame: {error}") from error
    if len(content) != size:
        raise IntegrityError(f"damaged zstd frame: {len(content)} bytes where its header says {size}")
    return content


def content_size(frame: bytes | memoryview) -> int:
    """Return how many bytes of content `frame` says it holds.

    Raises:
        IntegrityError: It is not a frame as casstore writes them: at most `FRAME_SIZE` bytes, whose number is
            stated, without checksum (the digest is better) and dictionary.
    """
    if bytes(frame[:4]) != zstandard.FRAME_HEADER:  # a skippable frame would pass for an empty one
        raise IntegrityError("not a zstd frame")
    try:
        header = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"not a zstd frame: {error}") from error
    if header.content_size > FRAME_SIZE or header.dict_id or header.has_checksum:
        raise IntegrityError("not a zstd frame as casstore writes them, of at most 4 MiB of content")
    return header.content_size


def seal(frames: bytes) -> bytes:
    """Return `frames` with the seal behind them."""
    return frames + seal_for(zlib.crc32(frames))


def seal_for(checksum: int) -> bytes:
    """Return the seal of a file whose frames have this CRC-32."""
    return _SEAL_START + checksum.to_bytes(4, "little")


def unseal(stored: bytes) -> memoryview:
    """Return the frames of a sealed file.

    Raises:
        IntegrityError: The seal is missing or does not fit.
    """
    frames = memoryview(stored)[:-SEAL_SIZE]
    check_seal(stored[-SEAL_SIZE:], zlib.crc32(frames))
    return frames


def check_seal(found: bytes, checksum: int) -> None:
    """Compare the last `SEAL_SIZE` bytes of a file with the CRC-32 of what stands before them.

    Raises:
        IntegrityError: They differ.
    """
    if found != seal_for(checksum):
        raise IntegrityError("the stored bytes were changed: their checksum does not fit")


def read_frames(file: BinaryIO, length: int) -> Iterator[bytes]:
    """Yield the frames in the next `length` bytes of `file`, one after another, undecoded, in bounded memory.

    Raises:
        IntegrityError: They are not a sequence of whole frames as casstore writes them.
    """
    if length <= 0:
        raise IntegrityError("a file without a zstd frame")
    while length > 0:
        frame = _read_frame(file)
        length -= len(frame)
        yield frame


def _read_frame(file: BinaryIO) -> bytes:
    frame = bytearray(_read(file, _HEADER_MIN))
    try:
        frame += _read(file, zstandard.frame_header_size(frame) - _HEADER_MIN)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"not a zstd frame: {error}") from error
    last = False
    while not last:
        header = _read(file, _BLOCK_HEADER)
        block = int.from_bytes(header, "little")
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == _RESERVED_BLOCK or len(frame) + size > STORED_MAX:
            raise IntegrityError("damaged zstd frame: a block has no valid type or length")
        frame += header
        frame += _read(file, 1 if kind == _RLE_BLOCK else size)
    return bytes(frame)


def _read(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) != length:
        raise IntegrityError("a zstd frame ends too early")
    return content

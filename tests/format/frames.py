"""Frames of zstd as designs/format.md allows them, told apart, checked and decoded for the second reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import zstandard

FRAME_CONTENT = 4 * 1024 * 1024
FRAME_STORED = FRAME_CONTENT + 64 * 1024
MAGIC = bytes.fromhex("28b52ffd")


class RefusedError(Exception):
    """The store breaks a rule of the format."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a zstd frame says: its own bytes, those of the content, those of the window."""

    length: int
    content: int
    window: int


def frames_of(body: bytes) -> Iterator[bytes]:
    """Take a file apart into its frames by walking block headers (RFC 8878, section 3.1.1)."""
    start = 0
    while start < len(body):
        end = start + _header(body[start : start + 18]).length
        last = False
        while not last:
            block = int.from_bytes(body[end : end + 3], "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            demand(kind != 3 and end + 3 <= len(body), "a block header")
            end += 3 + (1 if kind == 1 else size)
        demand(end <= len(body) and end - start <= FRAME_STORED, "the stored length of a frame")
        yield body[start:end]
        start = end


def decode(frame: bytes, dictionary: bytes | None = None) -> bytes:
    """Return the content of one frame."""
    header = _header(frame[:18])
    demand(header.content <= FRAME_CONTENT and header.window <= FRAME_CONTENT, "the sizes of a frame")
    data = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
    decompressor = zstandard.ZstdDecompressor(dict_data=data)
    content: bytes = decompressor.decompress(frame, max_output_size=FRAME_CONTENT)
    demand(len(content) == header.content, "the content size of a frame")
    return content


def _header(start: bytes) -> Header:
    """Read a frame's header (RFC 8878, section 3.1.1.1), which must be of the allowed kind."""
    demand(start[:4] == MAGIC, "the magic number of a frame")
    descriptor = start[4]
    single, flag = bool(descriptor & 0x20), descriptor >> 6
    demand(not descriptor & 0x08, "a reserved bit of a frame")
    demand(not descriptor & 0x04, "a frame has no checksum")
    demand(not descriptor & 0x03, "a frame names no dictionary")
    width = (1 if single else 0, 2, 4, 8)[flag]
    demand(width > 0, "a frame states its content's size")
    at = 5 if single else 6
    content = int.from_bytes(start[at : at + width], "little") + (256 if width == 2 else 0)
    window = content if single else _window(start[5])
    return Header(at + width, content, window)


def _window(descriptor: int) -> int:
    base = 1 << (10 + (descriptor >> 3))
    return base + base // 8 * (descriptor & 7)


def demand(holds: bool, rule: str) -> None:
    """Refuse what breaks a rule."""
    if not holds:
        raise RefusedError(rule)

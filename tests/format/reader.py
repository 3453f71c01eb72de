"""A second reader of stores, written from designs/format.md alone: the standard library and zstandard.

It shares no line with casstore, so that a mistake made by writer and reader alike does not stay unseen. It is
strict: whatever the page says MUST be so is checked, and it keeps all in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

FRAME_CONTENT = 4 * 1024 * 1024
FRAME_STORED = FRAME_CONTENT + 64 * 1024
NUMBER_MAX = 2**53 - 1
SEAL_HEAD = bytes.fromhex("5c2a4d1804000000")
SEAL_LENGTH = 12
MAGIC = bytes.fromhex("28b52ffd")
HEX64 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"([0-9a-f]{64})\.zst")

Fields = dict[str, Any]


class RefusedError(Exception):
    """The store breaks a rule of the format."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a zstd frame says: its own bytes, those of the content, those of the window."""

    length: int
    content: int
    window: int


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is in a store.

    Attributes:
        objects: The content of every object, by digest.
        claims: The claim that stands for each key, as the fields of its record.
        locations: The fields of every location record in the manifest, in no order.
    """

    objects: dict[str, bytes]
    claims: dict[str, Fields]
    locations: tuple[Fields, ...]

    @property
    def entries(self) -> dict[str, Fields]:
        """The claims that are entries, by key."""
        return {key: claim for key, claim in self.claims.items() if claim["kind"] == "entry"}

    def answers(self) -> dict[str, bytes | None]:
        """Return the content that answers each key, None where the store does not hold it."""
        return {key: self.objects.get(entry["object"]) for key, entry in self.entries.items()}


def read_store(root: Path) -> Reading:
    """Read the store in a folder, every byte of it.

    Raises:
        RefusedError: Something in it is not as the format demands.
    """
    shards = read_marker(root)
    objects = dict(_objects(root, shards))
    manifest = [record for path in _named(root / "manifest") for record in read_segment(path)]
    records = [*manifest, *_journal(root)]
    locations = tuple(record for record in manifest if record["kind"] == "location")
    for location in locations:
        content = objects.get(location["object"])
        _demand(content is None or len(content) == location["size"], f"size of {location}")
    return Reading(objects, _standing(records), locations)


def check_promises(root: Path) -> Reading:
    """Read a store that others read, and check the order of writing: what a segment names is there.

    Raises:
        RefusedError: An entry leads to nothing, or a reader could not find out where to.
    """
    _demand(not (root / "journal").exists(), "a store that others read has no journal")
    reading = read_store(root)
    located = {location["object"] for location in reading.locations}
    for entry in reading.entries.values():
        _demand(entry["object"] in reading.objects, f"the object of {entry} is missing")
        for digest in (entry["object"], *entry.get("refs", [])):
            _demand(digest in located or digest not in reading.objects, f"no location for {digest}")
    _demand(located <= reading.objects.keys(), "a location of an object that is not there")
    return reading


def read_marker(root: Path) -> tuple[int, int]:
    """Return the widths of the two folder levels."""
    content = (root / "casstore.json").read_bytes()
    _demand(len(content) <= 64 * 1024, "the marker is too large")
    marker = json.loads(content)
    _demand(marker["format"] == "casstore", "not a casstore marker")
    _demand(marker["version"] == 1, "a version that this reader does not know")
    _demand(marker["hash"] == "sha256", "a hash that this reader does not know")
    _demand(marker.get("features", []) == [], "a feature that this reader does not know")
    first, second = marker["shards"]
    _demand(1 <= first <= 4 and 1 <= second <= 4, "shard widths")
    return first, second


def read_segment(path: Path) -> list[Fields]:
    """Return the records of a segment, each checked."""
    text = read_sealed(path)
    _demand(text.endswith(b"\n"), "a segment ends with a newline")
    header, *records = (_fields(line) for line in text[:-1].split(b"\n"))
    _demand(header["kind"] == "segment" and header["version"] == 1, "the header of a segment")
    return [_checked(record) for record in records]


def read_sealed(path: Path) -> bytes:
    """Return the content of a sealed file, compared with the digest that is its name."""
    stored = path.read_bytes()
    body, seal = stored[:-SEAL_LENGTH], stored[-SEAL_LENGTH:]
    _demand(seal == SEAL_HEAD + zlib.crc32(body).to_bytes(4, "little"), f"the seal of {path.name}")
    contents = [_decode(frame) for frame in _frames(body)]
    _demand(bool(contents), "a file holds at least one frame")
    _demand(all(len(content) == FRAME_CONTENT for content in contents[:-1]), "frames but the last are full")
    _demand(contents[-1] != b"" or len(contents) == 1, "an empty frame behind others")
    content = b"".join(contents)
    _demand(hashlib.sha256(content).hexdigest() == path.name[:64], f"the digest of {path.name}")
    return content


def _objects(root: Path, shards: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    first, second = shards
    for path in _named(root / "objects"):
        digest = path.name[:64]
        expected = Path("objects", digest[:first], digest[first : first + second], path.name)
        _demand(path.relative_to(root) == expected, f"{path} is in a wrong folder")
        yield digest, read_sealed(path)


def _named(folder: Path) -> list[Path]:
    """Return the files below a folder; hidden ones are unfinished writes, others are refused."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    for path in files:
        _demand(NAME.fullmatch(path.name) is not None, f"{path} is not named by a digest")
    return files


def _journal(root: Path) -> Iterator[Fields]:
    """Yield the records of a local store that no segment holds yet, passing over torn lines."""
    for path in sorted((root / "journal").glob("*")):
        for line in path.read_bytes().split(b"\n"):
            checksum, _, text = line.partition(b" ")
            if checksum == b"%08x" % zlib.crc32(text) and text:
                yield _checked(_fields(text))


def _frames(body: bytes) -> Iterator[bytes]:
    """Take a file apart into its frames by walking block headers (RFC 8878, section 3.1.1)."""
    start = 0
    while start < len(body):
        end = start + _header(body[start : start + 18]).length
        last = False
        while not last:
            block = int.from_bytes(body[end : end + 3], "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            _demand(kind != 3 and end + 3 <= len(body), "a block header")
            end += 3 + (1 if kind == 1 else size)
        _demand(end <= len(body) and end - start <= FRAME_STORED, "the stored length of a frame")
        yield body[start:end]
        start = end


def _decode(frame: bytes) -> bytes:
    header = _header(frame[:18])
    _demand(header.content <= FRAME_CONTENT and header.window <= FRAME_CONTENT, "the sizes of a frame")
    content: bytes = zstandard.ZstdDecompressor().decompress(frame, max_output_size=FRAME_CONTENT)
    _demand(len(content) == header.content, "the content size of a frame")
    return content


def _header(start: bytes) -> Header:
    """Read a frame's header (RFC 8878, section 3.1.1.1), which must be of the allowed kind."""
    _demand(start[:4] == MAGIC, "the magic number of a frame")
    descriptor = start[4]
    single, flag = bool(descriptor & 0x20), descriptor >> 6
    _demand(not descriptor & 0x08, "a reserved bit of a frame")
    _demand(not descriptor & 0x04, "a frame has no checksum")
    _demand(not descriptor & 0x03, "a frame has no dictionary")
    width = (1 if single else 0, 2, 4, 8)[flag]
    _demand(width > 0, "a frame states its content's size")
    at = 5 if single else 6
    content = int.from_bytes(start[at : at + width], "little") + (256 if width == 2 else 0)
    window = content if single else _window(start[5])
    return Header(at + width, content, window)


def _window(descriptor: int) -> int:
    base = 1 << (10 + (descriptor >> 3))
    return base + base // 8 * (descriptor & 7)


def _fields(line: bytes) -> Fields:
    def once(pairs: list[tuple[str, Any]]) -> Fields:
        _demand(len(dict(pairs)) == len(pairs), "a field name occurs twice")
        return dict(pairs)

    fields = json.loads(line, object_pairs_hook=once)
    _demand(isinstance(fields, dict), "a record is a JSON object")
    return dict(fields)


def _checked(record: Fields) -> Fields:
    """Return a record whose fields are what its kind demands."""
    match record["kind"]:
        case "entry":
            refs = record.get("refs", [])
            _demand(_are_digests([record["key"], record["object"], *refs]), "digests of an entry")
            _demand(_are_numbers([record["generation"], record["created"]]), "numbers of an entry")
            _demand(isinstance(record["labels"], dict) and len(refs) <= 1024, "labels and refs")
            _demand(len(_canonical(record["labels"])) <= 64 * 1024, "the labels are too large")
        case "tombstone":
            _demand(_are_digests([record["key"]]), "the key of a tombstone")
            _demand(_are_numbers([record["generation"], record["created"]]), "numbers of a tombstone")
        case "location":
            _demand("pack" not in record, "a pack")
            frames = record.get("frames", {"stored": [], "digests": []})
            _demand(_are_digests([record["object"], *frames["digests"]]), "digests of a location")
            _demand(_are_numbers([record["size"], record["stored"], *frames["stored"]]), "numbers")
            _demand(len(frames["stored"]) == len(frames["digests"]), "frames of a location")
            _demand(("frames" in record) == (record["size"] > FRAME_CONTENT), "frames of large objects")
            _demand(record.get("kept", True) is True, "kept is true or absent")
        case unknown:
            raise RefusedError(f"version 1 writers write no {unknown}")
    return record


def _standing(records: list[Fields]) -> dict[str, Fields]:
    """Return the claim that stands for each key: the first in the order of the format."""
    claims = [record for record in records if record["kind"] in {"entry", "tombstone"}]
    standing: dict[str, Fields] = {}
    for claim in sorted(claims, key=_rank):
        standing.setdefault(claim["key"], claim)
    return standing


def _rank(claim: Fields) -> tuple[int, bool, int, str, bytes, str]:
    is_entry = claim["kind"] == "entry"
    content = claim["object"] if is_entry else ""
    labels = _canonical(claim["labels"]) if is_entry else b""
    return -claim["generation"], is_entry, claim["created"], content, labels, "".join(claim.get("refs", []))


def _canonical(labels: Fields) -> bytes:
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _are_digests(values: list[Any]) -> bool:
    return all(isinstance(value, str) and HEX64.fullmatch(value) for value in values)


def _are_numbers(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value <= NUMBER_MAX for value in values)


def _demand(holds: bool, rule: str) -> None:
    if not holds:
        raise RefusedError(rule)

"""A second reader of stores, written from designs/format.md alone: the standard library and zstandard.

It shares no line with casstore, so that a mistake made by writer and reader alike does not stay unseen. It is
strict: whatever the page says MUST be so is checked, and it keeps all in memory.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.format.frames import FRAME_CONTENT, RefusedError, decode, demand, frames_of

NUMBER_MAX = 2**53 - 1
SEAL_HEAD = bytes.fromhex("5c2a4d1804000000")
SEAL_LENGTH = 12
TOC_MAGIC = bytes.fromhex("5d2a4d18")
TOC_MARK = b"cpk1"
FEATURES = {"packs"}
PACKED_MAX = 1024 * 1024
PACK_MAX = 64 * 1024 * 1024
PACK_MEMBERS = 32_768
DICTIONARY_MAX = 1024 * 1024
REPLACED_MAX = 40_000
HEX64 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"([0-9a-f]{64})\.zst")

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is in a store.

    Attributes:
        objects: The content of every object, by digest.
        claims: The claim that stands for each key, as the fields of its record.
        records: The fields of every record in the manifest that is no claim, in no order.
        packs: What the table of contents of each pack says, by the pack's digest.
    """

    objects: dict[str, bytes]
    claims: dict[str, Fields]
    records: tuple[Fields, ...]
    packs: dict[str, Fields]

    def of_kind(self, kind: str) -> list[Fields]:
        """Return the records of a kind."""
        return [record for record in self.records if record["kind"] == kind]

    @property
    def locations(self) -> list[Fields]:
        """The location records."""
        return self.of_kind("location")

    @property
    def kept(self) -> set[str]:
        """The objects put by hand: said by a record of their own, or by an older location."""
        older = {location["object"] for location in self.locations if location.get("kept")}
        return older | {record["object"] for record in self.of_kind("kept")}

    @property
    def located(self) -> set[str]:
        """The objects of which the manifest says where they are."""
        members = itertools.chain.from_iterable(record["objects"] for record in self.of_kind("pack"))
        return {location["object"] for location in self.locations}.union(members)

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
    marker = read_marker(root)
    objects = dict(_objects(root, marker.shards))
    packs, members = _packs(root, marker, objects)
    for digest, content in members:
        demand(objects.setdefault(digest, content) == content, f"two contents of {digest}")
    manifest = [record for path in _named(root / "manifest") for record in read_segment(path)]
    newer = packs or {record["kind"] for record in manifest} & {"pack", "kept", "doomed", "replaces"}
    demand(not newer or "packs" in marker.features, "the marker does not name the feature packs")
    others = tuple(record for record in manifest if record["kind"] not in {"entry", "tombstone"})
    reading = Reading(objects, _standing([*manifest, *_journal(root)]), others, packs)
    for location in reading.locations:
        found = objects.get(location["object"])
        demand(found is None or len(found) == location["size"], f"size of {location}")
    for record in reading.of_kind("pack"):
        table = packs.get(record["pack"])
        demand(table is None or table.items() <= record.items(), "a pack record says what its pack says")
    return reading


def check_promises(root: Path) -> Reading:
    """Read a store that others read, and check the order of writing: what a segment names is there.

    Raises:
        RefusedError: An entry leads to nothing, or a reader could not find out where to.
    """
    demand(not (root / "journal").exists(), "a store that others read has no journal")
    reading = read_store(root)
    for entry in reading.entries.values():
        demand(entry["object"] in reading.objects, f"the object of {entry} is missing")
        for digest in (entry["object"], *entry.get("refs", [])):
            demand(digest in reading.located or digest not in reading.objects, f"no location for {digest}")
    doomed = {record["digest"] for record in reading.of_kind("doomed")}
    located = {location["object"] for location in reading.locations} - doomed
    demand(located <= reading.objects.keys(), "a location of an object that is not there")
    named = {record["pack"] for record in reading.of_kind("pack")} - doomed
    demand(named <= reading.packs.keys(), "a record of a pack that is not there")
    return reading


@dataclass(frozen=True, slots=True)
class Marker:
    """The widths of the two folder levels, and the names of features."""

    shards: tuple[int, int]
    features: frozenset[str]


def read_marker(root: Path) -> Marker:
    """Return what the marker says."""
    content = (root / "casstore.json").read_bytes()
    demand(len(content) <= 64 * 1024, "the marker is too large")
    marker = json.loads(content)
    demand(marker["format"] == "casstore", "not a casstore marker")
    demand(marker["version"] == 1, "a version that this reader does not know")
    demand(marker["hash"] == "sha256", "a hash that this reader does not know")
    features = frozenset(marker.get("features", []))
    demand(features <= FEATURES, "a feature that this reader does not know")
    first, second = marker["shards"]
    demand(1 <= first <= 4 and 1 <= second <= 4, "shard widths")
    return Marker((first, second), features)


def read_segment(path: Path) -> list[Fields]:
    """Return the records of a segment, each checked."""
    contents = _unsealed(path)
    text = b"".join(contents)
    demand(text.endswith(b"\n"), "a segment ends with a newline")
    header, *records = (_fields(line) for line in text[:-1].split(b"\n"))
    demand(header["kind"] == "segment" and header["version"] == 1, "the header of a segment")
    if "fresh" in header:
        read_fresh(path.read_bytes())
    return [_checked(record) for record in records]


def read_fresh(stored: bytes) -> tuple[list[str], list[Fields]]:
    """Return what a merged segment replaces and its fresh records, from as many first bytes as that takes."""
    head = next(frames_of(stored))
    first, *rest = decode(head).split(b"\n")
    header = _fields(first)["fresh"]
    demand(_are_digests([header["digest"]]), "the digest of the fresh part")
    demand(_are_numbers([header["size"], header["stored"]]), "the numbers of the fresh part")
    demand(rest.pop() == b"" and len(rest) <= REPLACED_MAX, "the first frame holds whole lines")
    replaces = [_checked(_fields(line)) for line in rest]
    demand(all(record["kind"] == "replaces" for record in replaces), "the head holds what is replaced")
    part = stored[len(head) : len(head) + header["stored"]]
    demand(len(part) == header["stored"], "the fresh part is there")
    content = b"".join(decode(frame) for frame in frames_of(part))
    demand(len(content) == header["size"], "the size of the fresh part")
    demand(hashlib.sha256(content).hexdigest() == header["digest"], "the digest of the fresh part")
    fresh = [_checked(_fields(line)) for line in content.split(b"\n")[:-1]]
    return [record["segment"] for record in replaces], fresh


def read_object(path: Path) -> bytes:
    """Return the content of an object's own file, whose frames are full but the last."""
    contents = _unsealed(path)
    demand(all(len(content) == FRAME_CONTENT for content in contents[:-1]), "frames but the last are full")
    demand(contents[-1] != b"" or len(contents) == 1, "an empty frame behind others")
    return b"".join(contents)


def _unsealed(path: Path) -> list[bytes]:
    """Return the contents of a sealed file's frames, compared with the digest that is its name."""
    stored = path.read_bytes()
    body, seal = stored[:-SEAL_LENGTH], stored[-SEAL_LENGTH:]
    demand(seal == SEAL_HEAD + zlib.crc32(body).to_bytes(4, "little"), f"the seal of {path.name}")
    contents = [decode(frame) for frame in frames_of(body)]
    demand(bool(contents), "a file holds at least one frame")
    digest = hashlib.sha256(b"".join(contents)).hexdigest()
    demand(digest == path.name[:64], f"the digest of {path.name}")
    return contents


def read_table(stored: bytes) -> tuple[Fields, int]:
    """Return the table of contents of a pack, and the bytes of the frames before it."""
    demand(len(stored) <= PACK_MAX, "a pack has at most 64 MiB")
    demand(stored[-4:] == TOC_MARK, "a pack ends with its mark")
    length = int.from_bytes(stored[-8:-4], "little") + 8
    start = len(stored) - length
    demand(start >= 8, "the table of contents lies in the pack")
    head = stored[start - 8 : start]
    demand(head == TOC_MAGIC + length.to_bytes(4, "little"), "a skippable frame around the table")
    (frame,) = frames_of(stored[start:-8])
    table = _fields(decode(frame))
    _check_table(table)
    demand(sum(table["lengths"]) == start - 8, "the frames fill the pack up to the table")
    return table, start - 8


def _check_table(table: Fields) -> None:
    objects, sizes, lengths = table["objects"], table["sizes"], table["lengths"]
    demand(all(isinstance(column, list) for column in (objects, sizes, lengths)), "three lists")
    demand(1 <= len(objects) <= PACK_MEMBERS, "how many objects a pack holds")
    demand(len(objects) == len(sizes) == len(lengths), "lists of one length")
    demand(_are_digests([*objects, *([table["dictionary"]] if "dictionary" in table else [])]), "digests")
    demand(_are_numbers([*sizes, *lengths]), "the numbers of a pack")
    demand(max(sizes) <= PACKED_MAX and min(lengths) > 0, "the bounds of an object in a pack")


def _packs(
    root: Path, marker: Marker, objects: dict[str, bytes]
) -> tuple[dict[str, Fields], list[tuple[str, bytes]]]:
    """Return the tables of contents of all packs, and the objects in them."""
    first, second = marker.shards
    tables: dict[str, Fields] = {}
    members: list[tuple[str, bytes]] = []
    for path in _named(root / "packs"):
        digest = path.name[:64]
        expected = Path("packs", digest[:first], digest[first : first + second], path.name)
        demand(path.relative_to(root) == expected, f"{path} is in a wrong folder")
        stored = path.read_bytes()
        demand(hashlib.sha256(stored).hexdigest() == digest, f"the digest of {path.name}")
        tables[digest], end = read_table(stored)
        members += _members(stored[:end], tables[digest], objects)
    return tables, members


def _members(frames: bytes, table: Fields, objects: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    dictionary = None
    if "dictionary" in table:
        demand(table["dictionary"] in objects, "a pack's dictionary is an object of the same store")
        dictionary = objects[table["dictionary"]]
        demand(len(dictionary) <= DICTIONARY_MAX, "the size of a dictionary")
    start = 0
    for digest, size, length in zip(table["objects"], table["sizes"], table["lengths"], strict=True):
        (frame,) = frames_of(frames[start : start + length])
        content = decode(frame, dictionary)
        demand(len(content) == size, f"the size of {digest}")
        demand(hashlib.sha256(content).hexdigest() == digest, f"the digest of {digest}")
        yield digest, content
        start += length


def _objects(root: Path, shards: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    first, second = shards
    for path in _named(root / "objects"):
        digest = path.name[:64]
        expected = Path("objects", digest[:first], digest[first : first + second], path.name)
        demand(path.relative_to(root) == expected, f"{path} is in a wrong folder")
        yield digest, read_object(path)


def _named(folder: Path) -> list[Path]:
    """Return the files below a folder; hidden ones are unfinished writes, others are refused."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    for path in files:
        demand(NAME.fullmatch(path.name) is not None, f"{path} is not named by a digest")
    return files


def _journal(root: Path) -> Iterator[Fields]:
    """Yield the records of a local store that no segment holds yet, passing over torn lines."""
    for path in sorted((root / "journal").glob("*")):
        for line in path.read_bytes().split(b"\n"):
            checksum, _, text = line.partition(b" ")
            if checksum == b"%08x" % zlib.crc32(text) and text:
                yield _checked(_fields(text))


def _fields(line: bytes) -> Fields:
    def once(pairs: list[tuple[str, Any]]) -> Fields:
        demand(len(dict(pairs)) == len(pairs), "a field name occurs twice")
        return dict(pairs)

    fields = json.loads(line, object_pairs_hook=once)
    demand(isinstance(fields, dict), "a record is a JSON object")
    return dict(fields)


def _checked(record: Fields) -> Fields:
    """Return a record whose fields are what its kind demands."""
    match record["kind"]:
        case "entry":
            refs = record.get("refs", [])
            demand(_are_digests([record["key"], record["object"], *refs]), "digests of an entry")
            demand(_are_numbers([record["generation"], record["created"]]), "numbers of an entry")
            demand(isinstance(record["labels"], dict) and len(refs) <= 1024, "labels and refs")
            demand(len(_canonical(record["labels"])) <= 64 * 1024, "the labels are too large")
        case "tombstone":
            demand(_are_digests([record["key"]]), "the key of a tombstone")
            demand(_are_numbers([record["generation"], record["created"]]), "numbers of a tombstone")
        case "location":
            demand("pack" not in record, "a pack")
            frames = record.get("frames", {"stored": [], "digests": []})
            demand(_are_digests([record["object"], *frames["digests"]]), "digests of a location")
            demand(_are_numbers([record["size"], record["stored"], *frames["stored"]]), "numbers")
            demand(len(frames["stored"]) == len(frames["digests"]), "frames of a location")
            demand(("frames" in record) == (record["size"] > FRAME_CONTENT), "frames of large objects")
            demand(record.get("kept", True) is True, "kept is true or absent")
        case "pack":
            demand(_are_digests([record["pack"]]) and _are_numbers([record["stored"]]), "a pack")
            _check_table(record)
            demand(sum(record["lengths"]) < record["stored"] <= PACK_MAX, "the bytes of a pack")
        case "kept":
            demand(_are_digests([record["object"]]), "the object of a kept record")
        case "doomed":
            demand(record["what"] in {"object", "pack", "segment"}, "what is doomed")
            demand(_are_digests([record["digest"]]) and _are_numbers([record["after"]]), "doom")
        case "replaces":
            demand(_are_digests([record["segment"]]), "the segment that is replaced")
        case unknown:
            raise RefusedError(f"a record of unknown kind {unknown}")
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

"""The format marker, and the spelling of names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from casstore.backends.local import LocalBackend
from casstore.digest import digest_of
from casstore.errors import FormatError, NotFoundError
from casstore.store.layout import digest_in, object_name, pack_name, segment_name
from casstore.store.marker import (
    PACKED,
    Marker,
    decode_marker,
    encode_marker,
    ensure_marker,
    read_marker,
    require_feature,
)
from tests.doubles import RecordingBackend

GOOD = {"format": "casstore", "version": 1, "hash": "sha256", "shards": [1, 1], "features": ["packs"]}


def test_round_trip() -> None:
    """A marker reads as it was written, one JSON object and a newline."""
    marker = Marker((2, 2))
    content = encode_marker(marker)
    assert content.endswith(b"}\n")
    assert json.loads(content) == {**GOOD, "shards": [2, 2]}
    assert decode_marker(content, "here") == marker


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": 2}, "upgrade casstore"),
        ({"features": ["packs", "wings"]}, "wings"),
        ({"hash": "blake3"}, "upgrade casstore"),
        ({"version": "1"}, "no version"),
        ({"version": 0}, "no version"),
        ({"format": "other"}, "not a casstore marker"),
        ({"features": "packs"}, "malformed list"),
        ({"features": [1]}, "malformed list"),
        ({"shards": [0, 1]}, "malformed shard"),
        ({"shards": [1, 5]}, "malformed shard"),
        ({"shards": [1]}, "malformed shard"),
        ({"shards": "11"}, "malformed shard"),
        ({"shards": ["../", "x"]}, "malformed shard"),
        ({"shards": None}, "malformed shard"),
    ],
)
def test_other_markers_are_refused(change: dict[str, object], word: str) -> None:
    """A marker of another version, with an unknown feature, or malformed is refused with the reason."""
    with pytest.raises(FormatError, match=word) as caught:
        decode_marker(json.dumps(GOOD | change).encode(), "s3://bucket/team")
    assert "s3://bucket/team" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"[" * 5000, b" " * 70_000])
def test_no_marker_at_all(content: bytes) -> None:
    """Bytes that are no JSON object are refused."""
    with pytest.raises(FormatError, match="not a casstore marker"):
        decode_marker(content, "here")


def test_first_marker_stands(tmp_path: Path) -> None:
    """A store has the marker that was written first; whoever comes later follows it."""
    backend = LocalBackend(tmp_path)
    with pytest.raises(NotFoundError):
        read_marker(backend)
    backend.write("casstore.json", encode_marker(Marker((2, 2))))
    assert ensure_marker(backend) == Marker((2, 2))
    assert ensure_marker(LocalBackend(tmp_path / "new")) == Marker()


def test_older_marker_gains_a_feature(tmp_path: Path) -> None:
    """A store without packs gets the feature before its first pack, once, and keeps its shards."""
    backend = RecordingBackend(LocalBackend(tmp_path))
    backend.write("casstore.json", encode_marker(Marker((2, 2), ())))
    older = read_marker(backend)
    assert older == Marker((2, 2), ())
    upgraded = require_feature(backend, older, PACKED)
    assert upgraded == read_marker(backend) == Marker((2, 2), (PACKED,))
    before = len(backend.calls)
    assert require_feature(backend, upgraded, PACKED) == upgraded
    assert len(backend.calls) == before


def test_names() -> None:
    """Names are spelled from digests, and read back into them."""
    digest = digest_of(b"")
    assert object_name(digest) == f"objects/e/3/{digest}.zst"
    assert object_name(digest, (2, 2)) == f"objects/e3/b0/{digest}.zst"
    assert pack_name(digest, (2, 1)) == f"packs/e3/b/{digest}.zst"
    assert segment_name(digest) == f"manifest/{digest}.zst"
    assert digest_in(object_name(digest)) == digest_in(segment_name(digest)) == digest


@pytest.mark.parametrize(
    "name", ["manifest/x.zst", "manifest/readme", f"{'a' * 64}", f"{'A' * 64}.zst", f"../{'a' * 63}.zst", ""]
)
def test_other_names_are_refused(name: str) -> None:
    """What is not named by a digest has none."""
    with pytest.raises(FormatError):
        digest_in(name)

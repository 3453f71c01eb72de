"""Dictionaries: trained, loaded, judged; and none of them is believed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from casstore.backends.local import LocalBackend
from casstore.digest import Digest, digest_of
from casstore.errors import IntegrityError, NotFoundError
from casstore.store.codec import (
    DICTIONARY_MAX,
    DICTIONARY_SIZE,
    FRAME_SIZE,
    Codec,
    Dictionary,
    decompress,
    seal,
    train,
)
from casstore.store.dictionaries import TRAINED_ON, Dictionaries, choose, stored
from casstore.store.layout import object_name
from tests.doubles import RecordingBackend
from tests.stores import damage, noise

CODEC = Codec()
SHARDS = (1, 1)


def texts(count: int, subject: str = "sea", seed: int = 0) -> list[bytes]:
    """Return answers about a subject, alike as those of one model are: words from a small stock."""
    chance = random.Random(f"{subject} {seed}")
    stock = [f"{subject}{chance.randrange(10**9)}" for _ in range(400)]
    return [" ".join(chance.choices(stock, k=40)).encode() for _ in range(count)]


def trained(subject: str = "sea") -> Dictionary:
    """Return a dictionary for answers about a subject."""
    dictionary = train(texts(TRAINED_ON, subject))
    assert dictionary is not None
    return dictionary


SEA = trained()


def placed(root: Path, dictionary: Dictionary) -> Path:
    """Store a dictionary as the object that it is, and return its file."""
    name = object_name(dictionary.digest, SHARDS)
    LocalBackend(root).write(name, seal(CODEC.compress(dictionary.content)))
    return root / name


def test_same_samples_train_the_same_dictionary() -> None:
    """Two machines with the same objects choose the same dictionary, so their packs are the same too."""
    again = train(texts(TRAINED_ON))
    assert again is not None
    assert again.digest == SEA.digest == digest_of(SEA.content)
    assert 0 < len(SEA.content) <= DICTIONARY_SIZE


def test_dictionary_saves_and_names_nothing() -> None:
    """Frames made with it are far smaller and carry no number of it: the pack names it."""
    unseen = texts(50, seed=0)[:50]
    assert stored(unseen, SEA, CODEC) < 0.6 * stored(unseen, None, CODEC)
    frame = CODEC.compress(unseen[0], SEA)
    assert frame[4] & 0x03 == 0
    assert decompress(frame, SEA) == unseen[0]


@pytest.mark.parametrize("samples", [[], [b""] * 2000, [b"x"] * 3])
def test_what_teaches_nothing_trains_nothing(samples: list[bytes]) -> None:
    """Samples that are too few or too small make no dictionary, and no error."""
    assert train(samples) is None


# Loading


def test_dictionary_is_loaded_once(tmp_path: Path) -> None:
    """It costs one read, however often it is asked for; once forgotten, another one."""
    placed(tmp_path, SEA)
    backend = RecordingBackend(LocalBackend(tmp_path))
    dictionaries = Dictionaries(backend, SHARDS)
    assert dictionaries(SEA.digest) is dictionaries(SEA.digest)
    assert dictionaries(SEA.digest).content == SEA.content
    assert backend.names("read") == [object_name(SEA.digest, SHARDS)]
    dictionaries.forget(SEA.digest)
    dictionaries.forget(digest_of(b"never seen"))
    dictionaries(SEA.digest)
    assert len(backend.names("read")) == 2


def test_missing_dictionary_is_not_found(tmp_path: Path) -> None:
    """A dictionary that is not there is told as such, and found when it is."""
    dictionaries = Dictionaries(LocalBackend(tmp_path), SHARDS)
    with pytest.raises(NotFoundError):
        dictionaries(SEA.digest)
    placed(tmp_path, SEA)
    assert dictionaries(SEA.digest).content == SEA.content


def test_damaged_dictionary_is_refused(tmp_path: Path) -> None:
    """No frame is decoded with a dictionary any bit of whose file was changed."""
    path = placed(tmp_path, SEA)
    good = path.read_bytes()
    for position in range(0, len(good), 97):
        damage(path, position, 1 << position % 8)
        with pytest.raises(IntegrityError):
            Dictionaries(LocalBackend(tmp_path), SHARDS)(SEA.digest)
        path.write_bytes(good)
    for length in (0, 1, 11, 12, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(IntegrityError):
            Dictionaries(LocalBackend(tmp_path), SHARDS)(SEA.digest)


def test_another_dictionary_in_its_place_is_refused(tmp_path: Path) -> None:
    """A whole and well-sealed dictionary of another name is none of this one."""
    other = trained("land")
    placed(tmp_path, SEA).write_bytes(placed(tmp_path, other).read_bytes())
    with pytest.raises(IntegrityError, match="does not fit its digest"):
        Dictionaries(LocalBackend(tmp_path), SHARDS)(SEA.digest)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(DICTIONARY_MAX + 1), id="too large"),
        pytest.param(bytes(FRAME_SIZE), id="of a whole frame"),
        pytest.param(b"\x37\xa4\x30\xec\x01\x00\x00\x00" + noise(1000), id="garbage behind the magic number"),
    ],
)
def test_what_cannot_be_a_dictionary_is_refused(tmp_path: Path, content: bytes) -> None:
    """An object of the right digest that is no dictionary is an error of ours when it is loaded."""
    digest = Digest(digest_of(content))
    LocalBackend(tmp_path).write(object_name(digest, SHARDS), seal(CODEC.compress(content)))
    with pytest.raises(IntegrityError):
        Dictionaries(LocalBackend(tmp_path), SHARDS)(digest)


def test_any_bytes_serve_as_a_dictionary() -> None:
    """What was never trained is a prefix to copy from, as zstd's own tool takes any file for one."""
    plain = Dictionary(b"a common beginning, ")
    content = b"a common beginning, and an end"
    assert decompress(CODEC.compress(content, plain), plain) == content


# Choosing


def test_nothing_is_trained_on_few() -> None:
    """With less than a thousand objects the dictionary in use stays, or none is used."""
    few = texts(TRAINED_ON - 1)
    assert choose(few, None, CODEC) is None
    assert choose(few, SEA, CODEC) is SEA


def test_the_first_thousand_train_one() -> None:
    """With a thousand objects and no dictionary, one is trained that saves much."""
    enough = texts(TRAINED_ON)
    chosen = choose(enough, None, CODEC)
    assert chosen is not None
    assert stored(enough, chosen, CODEC) < 0.8 * stored(enough, None, CODEC)
    again = choose(enough, None, CODEC)
    assert again is not None
    assert again.digest == chosen.digest


def test_a_current_one_that_does_as_well_stays() -> None:
    """More of the same brings no new dictionary, which every member of a team would have to fetch."""
    assert choose(texts(TRAINED_ON + 250), SEA, CODEC) is SEA


def test_a_current_one_is_replaced_when_the_data_changed() -> None:
    """Where a new dictionary saves clearly more, it takes the place of the current one."""
    chosen = choose(texts(TRAINED_ON + 250, "land"), SEA, CODEC)
    assert chosen is not None
    assert chosen.digest != SEA.digest


def test_what_no_dictionary_helps_gets_none() -> None:
    """Objects that have nothing in common are packed without a dictionary."""
    assert choose([noise(300, number) for number in range(TRAINED_ON + 250)], None, CODEC) is None


# Contexts


def test_contexts_are_bounded() -> None:
    """However many dictionaries a thread meets, it keeps a few contexts, and all of them work."""
    codec = Codec()
    many = [Dictionary(b"dictionary %d, " % number * 5) for number in range(30)]
    for _ in range(2):
        for number, dictionary in enumerate(many):
            content = b"dictionary %d, and more" % number
            assert decompress(codec.compress(content, dictionary), dictionary) == content
            assert decompress(codec.compress(content)) == content
            assert len(codec._local.compressors) <= 9


def test_contexts_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that packs with one dictionary makes one context for it, not one a frame."""
    made: list[int] = []
    original = Dictionary.compressor

    def count(self: Dictionary, level: int) -> object:
        made.append(level)
        return original(self, level)

    monkeypatch.setattr(Dictionary, "compressor", count)
    codec = Codec(5)
    for content in texts(20):
        codec.compress(content, SEA)
    assert made == [5]

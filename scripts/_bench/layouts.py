"""How objects could be laid out in a pack, and what each layout takes: bytes, and time to read one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import zstandard

LEVEL = 3

DICTIONARY, SAMPLES = 64 * 1024, 1000
"""Bytes of a dictionary, and the most objects that one is trained on."""

TRAINER = {"k": 256, "d": 8, "f": 18, "accel": 1}
"""How it is trained; `trainers` has the others. Left to itself it searches for k, and finds small ones good
because it counts the bytes of the dictionary, which a store has once."""

_PASSES = 5


@dataclass(frozen=True, slots=True)
class Body:
    """An object that could be in a pack.

    Attributes:
        content: Its bytes.
        group: Who wrote it: the model, or the provider.
    """

    content: bytes
    group: Hashable


@dataclass(frozen=True, slots=True)
class Taken:
    """What objects took.

    Attributes:
        raw: Their bytes.
        stored: Bytes of their frames.
        seconds: To read each of them once, at random, the frame around it decompressed.
        count: How many there were.
    """

    raw: int = 0
    stored: int = 0
    seconds: float = 0.0
    count: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            self.raw + other.raw,
            self.stored + other.stored,
            self.seconds + other.seconds,
            self.count + other.count,
        )

    @property
    def percent(self) -> float:
        """Bytes stored of a hundred raw ones."""
        return 100 * self.stored / self.raw

    @property
    def microseconds(self) -> float:
        """To read one object."""
        return 1e6 * self.seconds / self.count


def train(samples: Sequence[bytes], seed: int = 0) -> bytes | None:
    """Return a dictionary trained on up to `SAMPLES` of the samples; None where they are too few."""
    chosen = random.Random(seed).sample(samples, min(SAMPLES, len(samples)))
    try:
        # Small sets carry no more than a part of themselves.
        size = min(DICTIONARY, sum(map(len, chosen)) // 2)
        return train_with(TRAINER, size, chosen)
    except zstandard.ZstdError:
        return None


def train_with(settings: Mapping[str, int], size: int, samples: Sequence[bytes]) -> bytes:
    """Return a dictionary of up to `size` bytes.

    Raises:
        zstandard.ZstdError: The samples are too few or too short.
    """
    buffers: list[bytes | bytearray | memoryview] = list(samples)
    return zstandard.train_dictionary(size, buffers, level=LEVEL, **settings).as_bytes()


def measure(objects: Sequence[bytes], frame: int, dictionary: bytes | None) -> Taken:
    """Return what objects take in frames of at least `frame` bytes; with 0, one frame an object.

    The dictionary's own bytes are not counted: a store has one for many thousands of objects.
    """
    compress, decompress = _codec(dictionary)
    frames: list[bytes] = []
    where: list[tuple[int, int, int]] = []
    for members in _grouped(objects, frame):
        start = 0
        for member in members:
            where.append((len(frames), start, start + len(member)))
            start += len(member)
        frames.append(compress(b"".join(members)))
    seconds = _read(frames, where, decompress)
    return Taken(sum(map(len, objects)), sum(map(len, frames)), seconds, len(objects))


def _codec(dictionary: bytes | None) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    if dictionary is None:
        return zstandard.ZstdCompressor(LEVEL).compress, zstandard.ZstdDecompressor().decompress
    loaded = zstandard.ZstdCompressionDict(dictionary)
    loaded.precompute_compress(level=LEVEL)
    compressor = zstandard.ZstdCompressor(LEVEL, dict_data=loaded)
    return compressor.compress, zstandard.ZstdDecompressor(dict_data=loaded).decompress


def _grouped(objects: Sequence[bytes], frame: int) -> Iterator[list[bytes]]:
    members: list[bytes] = []
    size = 0
    for each in objects:
        members.append(each)
        size += len(each)
        if size >= frame:
            yield members
            members, size = [], 0
    if members:
        yield members


def _read(
    frames: Sequence[bytes], where: Sequence[tuple[int, int, int]], decompress: Callable[[bytes], bytes]
) -> float:
    order = list(where)
    best = float("inf")
    for number in range(_PASSES):
        random.Random(number).shuffle(order)
        started = time.perf_counter()
        for index, start, end in order:
            decompress(frames[index])[start:end]
        best = min(best, time.perf_counter() - started)
    return best

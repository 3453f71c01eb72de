"""Answers as models write them, any number of them, no two alike: real ones cut up and put together anew.

The samples that they are cut from lie beside the checkout, or where CASSTORE_SAMPLES says; where they do not,
prose that ships with Python stands in for them.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts._demo.documents import documents

DATA = Path(os.environ.get("CASSTORE_SAMPLES") or Path(__file__).parents[3] / "shared" / "data")
OUTPUTS = DATA / "llm_outputs_sample.jsonl.gz"
EXCHANGES = DATA / "http_exchanges_sample.jsonl.gz"

MEDIAN, NINETIETH, LONGEST = 1500, 3300, 20_000
"""Bytes of the middle answer, of the one that nine in ten do not exceed, and of the longest."""

_LONG = 0.001
"""How many answers in one are of the longest."""

_SPREAD = math.log(NINETIETH / MEDIAN) / 1.2816  # the normal distribution's 90th percentile
_SHORTEST, _RUN = 60, 400
_PIECE = re.compile(r".+?(?:\n+|(?<=[.!?:;])\s+|$)", re.DOTALL)


class Answers:
    """An endless supply of different answers.

    Args:
        seed: Two supplies of one seed give the same answers.
        documents: Real texts to cut, by the kind of text: pieces of two kinds are not mixed.
    """

    def __init__(self, seed: int | str, documents: Mapping[str, Sequence[str]]) -> None:
        self._chance = random.Random(seed)
        self._pieces = {kind: [_cut(text) for text in texts] for kind, texts in documents.items()}
        self._kinds = list(self._pieces)
        self._weights = [sum(map(len, documents[kind])) for kind in self._kinds]
        self._given: set[int] = set()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            answer = self._compose(self._length())
            if hash(answer) not in self._given:
                self._given.add(hash(answer))
                yield answer

    def _length(self) -> int:
        if self._chance.random() < _LONG:
            return LONGEST
        length = self._chance.lognormvariate(math.log(MEDIAN), _SPREAD)
        return int(min(max(length, _SHORTEST), LONGEST))

    def _compose(self, length: int) -> bytes:
        """Return runs of sentences of several answers of one kind, cut to the length."""
        texts = self._pieces[self._chance.choices(self._kinds, self._weights)[0]]
        composed: list[str] = []
        missing = length
        while missing > 0:
            run = self._run(self._chance.choice(texts))
            composed.append(run)
            missing -= len(run)
        return "".join(composed).encode()[:length]

    def _run(self, pieces: Sequence[str]) -> str:
        """Return sentences that follow each other in one answer, a few hundred characters of them."""
        start = self._chance.randrange(len(pieces))
        wanted, end = self._chance.randrange(_RUN, 3 * _RUN), start
        while end < len(pieces) and wanted > 0:
            wanted -= len(pieces[end])
            end += 1
        return "".join(pieces[start:end])


def real() -> tuple[str, dict[str, list[str]]]:
    """Return what the texts are called, and the texts by kind."""
    if OUTPUTS.exists():
        return "2,974 real answers of 16 models, recombined", outputs()
    prose = [document.text for document in documents(38)]
    return "prose that ships with Python, recombined", {"prose": prose}


def outputs() -> dict[str, list[str]]:
    """Return the sample's answers by dataset.

    Raises:
        FileNotFoundError: The sample is not there.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows(OUTPUTS):
        found[row["dataset"]].append(row["output"])
    return dict(found)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a sample, a line each.

    Raises:
        FileNotFoundError: The sample is not there.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _cut(text: str) -> list[str]:
    return _PIECE.findall(text) or [text]

"""Thousands of real answers through the cached client: misses, then hits with equal text, anywhere."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from casstore.inference.cache import Cache
from casstore.inference.types import Message, Request, Response, System, Usage
from casstore.repo.repository import Repository
from tests.inference.fakes import FakeClient

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "llm_outputs_sample.jsonl.gz"

pytestmark = pytest.mark.skipif(not SAMPLE.exists(), reason=f"the sample of real answers is not at {SAMPLE}")

SECOND_PROCESS = """
import sys
from pathlib import Path
from tests.inference.test_replay import run
calls, hits = run(Path(sys.argv[1]))
print(calls, hits)
"""


class Replaying(FakeClient):
    """A client that gives the answer recorded for a row; its id stands in the request."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(host="replay.example", model=row["model"], truncated="return")
        self.row = row

    def request(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return what is asked, told apart by the row: some rows share a prompt, or have none."""
        return super().request(messages, system, {**options, "row": self.row["id"]}, stream=stream)

    def respond(self, body: Mapping[str, Any]) -> Response:
        """Return what was recorded."""
        self.calls.append(body)
        usage = Usage(self.row.get("input_tokens") or 0, self.row.get("output_tokens") or 0)
        return Response(self.row["output"], "end", usage, self.row["model"])


def rows() -> Iterator[Mapping[str, Any]]:
    """Yield the recorded answers that are not empty."""
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as lines:
        yield from (row for row in map(json.loads, lines) if row["output"].strip())


def run(store: Path, mode: str = "normal") -> tuple[int, int]:
    """Ask for every row, check every text, and return calls and hits."""
    with Cache(store, mode=mode) as cache:
        for row in rows():
            client = cache.wrap(Replaying(row))
            response = client.converse(row["messages"], **(row.get("options") or {}))
            assert response.text == row["output"], row["id"]
        stats = cache.stats()
        assert cache.guard.faults == 0
    return stats.calls, stats.hits


def test_real_answers_here_in_a_second_process_and_in_a_second_store(tmp_path: Path) -> None:
    """Each answer is paid for once: hits here, in another process, and after push and pull elsewhere."""
    expected = sum(1 for _ in rows())
    mine, theirs, remote = tmp_path / "mine", tmp_path / "theirs", (tmp_path / "team").as_uri()
    assert run(mine) == (expected, 0)
    assert run(mine) == (0, expected)

    command = [sys.executable, "-c", SECOND_PROCESS, str(mine)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == f"0 {expected}\n"

    with Repository.open(mine) as repository:
        assert repository.push(remote).entries == expected
    with Repository.open(theirs) as repository:
        assert repository.pull(remote).entries == expected
    assert run(theirs, mode="offline") == (0, expected)


def test_real_answers_are_fetched_on_demand(tmp_path: Path) -> None:
    """With the manifest alone, each answer is fetched when it is first asked for."""
    mine, theirs, remote = tmp_path / "mine", tmp_path / "theirs", (tmp_path / "team").as_uri()
    some = [row for row, _ in zip(rows(), range(50), strict=False)]
    with Cache(mine) as cache:
        for row in some:
            cache.wrap(Replaying(row)).converse(row["messages"])
    with Repository.open(mine) as repository:
        repository.push(remote)
    with Repository.open(theirs) as repository:
        report = repository.pull(remote, manifest_only=True)
        assert (report.entries, report.objects) == (50, 0)
        cache = Cache(repository, mode="offline")
        for row in some:
            assert cache.wrap(Replaying(row)).converse(row["messages"]).text == row["output"]

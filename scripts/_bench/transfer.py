"""Push and pull of many entries, against one request a file by boto3 from as many threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config as BotoConfig

from casstore.repo.repository import Repository
from casstore.repo.transfer import WORKERS
from scripts._bench.results import Row
from scripts._bench.subjects import store
from scripts._bench.workload import pairs
from tests.s3 import Server, running_server

BASELINE = f"boto3, {WORKERS} threads"


@dataclass(frozen=True, slots=True)
class Timed:
    """How long something took, and the requests that the server counted."""

    seconds: float
    requests: dict[str, int]


class Files:
    """The baseline: files to a bucket and back, a request each.

    Args:
        endpoint: Where the server listens.
        bucket: The bucket.
    """

    def __init__(self, endpoint: str, bucket: str) -> None:
        config = BotoConfig(max_pool_connections=WORKERS)
        self._s3: Any = boto3.client("s3", endpoint_url=endpoint, config=config)
        self._bucket = bucket

    def upload(self, folder: Path) -> None:
        """Upload every file in a folder."""

        def one(path: Path) -> None:
            name = path.relative_to(folder).as_posix()
            self._s3.put_object(Bucket=self._bucket, Key=name, Body=path.read_bytes())

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, [path for path in folder.rglob("*") if path.is_file()]))

    def download(self, folder: Path) -> None:
        """Download every file in the bucket."""

        def one(name: str) -> None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read())

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, self._names()))

    def _names(self) -> Iterator[str]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            for each in page.get("Contents", ()):
                yield each["Key"]


def transfer(folder: Path, entries: int, rounds: int) -> list[Row]:
    """Return what push and pull take, in the best of `rounds`, on an S3 server of its own."""
    source = store(folder / "source")
    for pair in pairs(entries, "transfer"):
        source.put(pair)
    source.close()
    with running_server() as server, _credentials(server):
        found = [_round(server, folder / "source", folder / str(number)) for number in range(rounds)]
    rows = []
    for name in ("push", "pull"):
        mine = min((each[name] for each in found), key=_seconds)
        theirs = min((each[name + " by boto3"] for each in found), key=_seconds)
        title = f"{name}, {entries:,} entries"
        rows.append(Row(title, mine.seconds, BASELINE, theirs.seconds, None, mine.requests, theirs.requests))
    return [*rows, *(_idle(found, name) for name in ("push", "pull"))]


def _idle(found: list[dict[str, Timed]], name: str) -> Row:
    timed = min((each[f"{name} again"] for each in found), key=_seconds)
    return Row(f"{name} with nothing new", timed.seconds, "", None, None, timed.requests)


def _round(server: Server, source: Path, folder: Path) -> dict[str, Timed]:
    theirs = Files(server.endpoint, server.new_bucket())
    remote = f"s3://{server.new_bucket()}/team"
    target = folder / "target"
    found = {}

    def timed(name: str, action: Callable[[], object]) -> None:
        server.clear()
        started = time.perf_counter()
        action()
        found[name] = Timed(time.perf_counter() - started, server.verbs())

    with Repository.open(source) as repo:
        timed("push", lambda: repo.push(remote))
        timed("push by boto3", lambda: theirs.upload(source / "objects"))
        timed("push again", lambda: repo.push(remote))
    with Repository.open(target) as repo:
        timed("pull", lambda: repo.pull(remote))
        timed("pull by boto3", lambda: theirs.download(folder / "files"))
        timed("pull again", lambda: repo.pull(remote))
    return found


@contextmanager
def _credentials(server: Server) -> Iterator[None]:
    """Lead S3 clients to the server for as long as the block lasts."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.endpoint,
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _seconds(timed: Timed) -> float:
    return timed.seconds

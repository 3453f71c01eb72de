"""A push or pull that kills itself at a request.

``python -m tests.crash.large_transfer STORE URL OPERATION PART VERB NUMBER`` pushes or pulls with parts of so
many bytes, and ends as by SIGKILL when the request of that number with that verb is due; 0: it does not.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from botocore.awsrequest import AWSPreparedRequest

from casstore.backends.s3 import S3Backend
from casstore.repo.repository import Repository


def kill_at(verb: str, number: int) -> None:
    """Let this process die when its `number`-th request with `verb` is due."""
    original = S3Backend._sent
    lock, left = threading.Lock(), number

    def sent(self: S3Backend, request: AWSPreparedRequest, event_name: str, **rest: object) -> None:
        nonlocal left
        with lock:
            left -= request.method == verb
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        original(self, request, event_name, **rest)

    S3Backend._sent = sent  # type: ignore[method-assign] # this process is made to die


def main(store: Path, url: str, operation: str) -> None:
    """Push or pull."""
    with Repository.open(store) as repository:
        report = repository.push(url) if operation == "push" else repository.pull(url)
    if report.failures:
        sys.exit(f"{report.failures}")


if __name__ == "__main__":
    S3Backend.part_size = int(sys.argv[4])
    if int(sys.argv[6]):
        kill_at(sys.argv[5], int(sys.argv[6]))
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

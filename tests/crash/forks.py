"""Processes that can be killed at a random moment: ``python -m tests.crash.forks`` forks one for each job.

It imports everything once, so that a child is at work within milliseconds of its fork, and it kills its child
itself, so that no other process can be hit. A job is a line of JSON, and so is its outcome.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent
FAILED = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What a child is to do.

    Attributes:
        operation: ``put``, ``push``, ``pull``, or ``put and push``.
        store: The folder of its store.
        remote: The URL of the remote.
        numbers: Of a put, the first number and the one behind the last.
        said: Of a put, the file that gets a line for each put that has returned.
        start: When to begin a push, by the monotonic clock.
        kill_after: Seconds from the fork to SIGKILL; None: never.
        environment: All of the child's environment variables.
    """

    operation: str
    store: str
    remote: str = ""
    numbers: tuple[int, int] = (0, 0)
    said: str = ""
    start: float = 0.0
    kill_after: float | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended: killed, or else with this exit code; and how many seconds it had."""

    killed: bool
    code: int
    seconds: float


class Forks:
    """The program, seen from a test.

    Args:
        process: It, running.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self, job: Job) -> None:
        """Fork a child; the next call must be `end`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()

    def end(self) -> Outcome:
        """Wait until the child is gone."""
        assert self._process.stdout is not None
        return Outcome(**json.loads(self._process.stdout.readline()))

    def run(self, job: Job) -> Outcome:
        """Fork a child and wait until it is gone."""
        self.begin(job)
        outcome = self.end()
        assert outcome.killed or outcome.code == 0, f"{job} failed by itself: {outcome}"
        return outcome


@contextmanager
def running_forks() -> Iterator[Forks]:
    """Start the program, and end it."""
    command = [sys.executable, "-m", "tests.crash.forks"]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Forks(process)


def _serve() -> None:
    import s3fs  # noqa: F401 - a child need not

    from casstore.repo import rebuild, sync, verify  # noqa: F401 - likewise

    for line in sys.stdin:
        job = Job(**json.loads(line))
        begun = time.monotonic()
        child = os.fork()
        if not child:
            os._exit(_run(job))
        if job.kill_after is not None:
            time.sleep(job.kill_after)
            os.kill(child, signal.SIGKILL)  # it may be gone, but it was not waited for: the id is still its own
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        code = 0 if killed else os.waitstatus_to_exitcode(status)
        print(json.dumps(asdict(Outcome(killed, code, time.monotonic() - begun))), flush=True)  # noqa: T201 - it answers here


def _run(job: Job) -> int:
    os.environ.clear()
    os.environ.update(job.environment)
    try:
        _work(job)
    except BaseException:  # noqa: BLE001 - the child must not return into the parent's loop
        traceback.print_exc()
        return FAILED
    return 0


def _work(job: Job) -> None:
    from casstore.repo.repository import Repository
    from tests.stores import key

    with Repository.open(job.store) as repository:
        if job.operation.startswith("put"):
            said = os.open(job.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if job.said else None
            for number in range(*job.numbers):
                repository.put_entry(key(number), content_of(number), refs=[b"question %d" % number])
                if said is not None:
                    os.write(said, b"%d\n" % number)
        time.sleep(max(0.0, job.start - time.monotonic()))
        if job.operation.endswith("push"):
            repository.push(job.remote)
        elif job.operation == "pull":
            repository.pull(job.remote)


def content_of(number: int) -> bytes:
    """Return the answer to a number: every tenth takes some time to write."""
    size = 40_000 if number % 10 == 0 else 200
    return (b"answer %d. " % number) * (size // 10)


if __name__ == "__main__":
    _serve()

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

from casstore.quiet import ignore
from casstore.repo.evict import evict
from casstore.repo.repository import Repository
from tests.stores import key

_ROOT = Path(__file__).parent.parent.parent
FAILED = 1
NO_GRACE = -24 * 3600 * 1000
"""Milliseconds: what is doomed this minute may be deleted."""

PATIENCE = 60.0
"""Seconds one process waits for another."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a child is to do.

    Attributes:
        operation: ``put``, ``push``, ``pull``, ``gc`` (without grace), ``repack``, ``evict`` (half of it), or
            ``put and push``, which meets another process in between.
        store: The folder of its store.
        remote: The URL of the remote.
        numbers: Of a put, the first number and the one behind the last.
        said: Of a put, the file that gets a line for each put that has returned.
        meeting: The folder where the two that push together meet.
        rounds: How often they do, each time with the next numbers, as many of them further on as `step`.
        step: See `rounds`.
        kill_after: Seconds from the fork to SIGKILL; None: never.
        environment: All of the child's environment variables.
    """

    operation: str
    store: str
    remote: str = ""
    numbers: tuple[int, int] = (0, 0)
    said: str = ""
    meeting: str = ""
    rounds: int = 1
    step: int = 0
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
    from casstore.backends import retry, s3  # noqa: F401 - a child need not
    from casstore.repo import gc, packs, rebuild, repack, sync, verify  # noqa: F401 - likewise

    for line in sys.stdin:
        job = Job(**json.loads(line))
        begun = time.monotonic()
        child = os.fork()
        if not child:
            os._exit(_run(job))
        if job.kill_after is not None:
            time.sleep(job.kill_after)
            os.kill(
                child, signal.SIGKILL
            )  # it may be gone, but it was not waited for: the id is still its own
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
    with Repository.open(job.store) as repository:
        match job.operation:
            case "put":
                _put(repository, job, 0)
            case "push":
                repository.push(job.remote)
            case "pull":
                repository.pull(job.remote)
            case "gc":
                repository.gc(job.remote, grace=NO_GRACE)
            case "repack":
                repository.repack()
            case "evict":
                evict(repository.local, repository.local.index.evictable() // 2, ignore)
            case "put and push":
                for number in range(job.rounds):
                    _put(repository, job, number * job.step)
                    _meet(Path(job.meeting), f"round-{number}", Path(job.store).name)
                    repository.push(job.remote)


def _put(repository: Repository, job: Job, further: int) -> None:
    said = os.open(job.said or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(job.numbers[0] + further, job.numbers[1] + further):
        put_number(repository, number)
        os.write(said, b"%d\n" % number)
    os.close(said)


def put_number(repository: Repository, number: int) -> None:
    """Put the answer to a number, which goes with its question."""
    repository.put_entry(key(number), content_of(number), refs=[b"question %d" % number])


def _meet(folder: Path, point: str, name: str) -> None:
    """Wait until two processes are here."""
    (folder / f"{point}-{name}").touch()
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.glob(f"{point}-*"))) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody else came to {point}")
        time.sleep(0.0005)


def content_of(number: int) -> bytes:
    """Return the answer to a number: every tenth takes some time to write."""
    size = 40_000 if number % 10 == 0 else 200
    return (b"answer %d. " % number) * (size // 10)


if __name__ == "__main__":
    _serve()

"""Who takes part in the comparison of syncs: casstore, and each peer as its manual has it at its fastest.

All but casstore and restic send a request a file; they compare by name and size where they can be told to,
which is enough for files named by a digest, and the fastest they offer.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

COLD_PUSH, IDLE_PUSH, NEW_PUSH = "cold push", "no-op push", "push of 10 new"
COLD_PULL, IDLE_PULL, NEW_PULL = "cold pull", "no-op pull", "pull of 10 new"
OPERATIONS = (COLD_PUSH, IDLE_PUSH, COLD_PULL, IDLE_PULL, NEW_PUSH, NEW_PULL)
PUSHES = frozenset({COLD_PUSH, IDLE_PUSH, NEW_PUSH})

CASSTORE, RESTIC = "casstore", "restic"
PLAIN = ("plain (obstore)", "plain (s3fs)")
"""As many bytes as casstore's, as objects of 16 MiB: what any transfer of them must take."""

_BIN = Path(sys.executable).parent
_REQUESTER, _S3FS = Path(__file__).with_name("requester.py"), Path(__file__).with_name("plain.py")
_AT_ONCE = "64"

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one subject works in one round.

    Attributes:
        folder: A folder of its own, which is its home.
        source: What it pushes: files, or a store.
        target: Where it pulls to; not there at first.
        bucket: A bucket of its own.
        environment: The keys to it, and ``AWS_ENDPOINT_URL``.
        size: Bytes that `PLAIN` is to move.
    """

    folder: Path
    source: Path
    target: Path
    bucket: str
    environment: Mapping[str, str]
    size: int = 0

    @property
    def endpoint(self) -> str:
        """Where the server listens, with its scheme."""
        return self.environment["AWS_ENDPOINT_URL"]


def _nothing(_: Place) -> tuple[Command, ...]:
    return ()


def _no_settings(_: Place) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Peer:
    """A subject.

    Attributes:
        name: What it is called.
        version: Which it is; None where it is not installed.
        push: The command that brings the bucket up to date with the source.
        pull: The command that brings the target up to date with the bucket.
        prepare: What is run once beforehand, unmeasured.
        settings: Variables that it reads, besides the keys.
        operations: What it can do.
        a_request_a_file: Whether each file costs it a request.
    """

    name: str
    version: str | None
    push: Callable[[Place], Command]
    pull: Callable[[Place], Command]
    prepare: Callable[[Place], tuple[Command, ...]] = _nothing
    settings: Callable[[Place], Mapping[str, str]] = _no_settings
    operations: tuple[str, ...] = field(default=OPERATIONS)
    a_request_a_file: bool = True

    @property
    def short(self) -> str:
        """What it is called on the command line: the first word of its name."""
        return self.name.split()[0]

    def command(self, operation: str, place: Place) -> Command:
        """Return the command of an operation."""
        return self.push(place) if operation in PUSHES else self.pull(place)

    def environment(self, place: Place) -> dict[str, str]:
        """Return all variables of its own."""
        return {**place.environment, **self.settings(place)}


def peers() -> tuple[Peer, ...]:
    """Return everyone, those who are not installed included; casstore is the first."""
    plain = (_plain(PLAIN[0], "obstore", _REQUESTER), _plain(PLAIN[1], "s3fs", _S3FS))
    return (_casstore(), *plain, _obstore(), _s5cmd(), _rclone(), _juicefs(), _aws(), _restic())


def casstore_command(*arguments: str | Path) -> Command:
    """Return a call of casstore's program, as its users call it."""
    return (str(_BIN / "casstore"), *map(str, arguments))


def _casstore() -> Peer:
    def url(place: Place) -> str:
        return f"s3://{place.bucket}/team"

    return Peer(
        CASSTORE,
        version("casstore"),
        lambda place: casstore_command("--store", place.source, "push", "--json", url(place)),
        lambda place: casstore_command("--store", place.target, "pull", "--json", url(place)),
        a_request_a_file=False,
    )


def _plain(name: str, package: str, program: Path) -> Peer:
    return Peer(
        name,
        _package(package),
        lambda place: _request(program, "upload", place.source, place.bucket, str(place.size)),
        lambda place: _request(program, "download", place.target, place.bucket, str(place.size)),
        operations=(COLD_PUSH, COLD_PULL),
        a_request_a_file=False,
    )


def _obstore() -> Peer:
    return Peer(
        "obstore",
        _package("obstore"),
        lambda place: _request(_REQUESTER, "push", place.source, place.bucket),
        lambda place: _request(_REQUESTER, "pull", place.target, place.bucket),
    )


def _s5cmd() -> Peer:
    program = _packaged("s5cmd", "s5cmd/bin/s5cmd") or _found("s5cmd")
    sync = (program, "--log", "error", "--numworkers", _AT_ONCE, "sync", "--size-only")
    return Peer(
        "s5cmd",
        _version(program, "version"),
        lambda place: (*sync, f"{place.source}/", f"s3://{place.bucket}/"),
        lambda place: (*sync, f"s3://{place.bucket}/*", f"{place.target}/"),
        settings=lambda place: {"S3_ENDPOINT_URL": place.endpoint},
    )


def _rclone() -> Peer:
    program = _found("rclone")
    sync: Command = (
        program,
        "sync",
        "--transfers",
        _AT_ONCE,
        "--checkers",
        _AT_ONCE,
        "--fast-list",
        "--size-only",
    )
    # Else it asks for the bucket, and for each object after it was written or before it is read.
    sync = (*sync, "--s3-no-check-bucket", "--s3-no-head", "--s3-no-head-object")
    return Peer(
        "rclone",
        _version(program, "version"),
        lambda place: (*sync, str(place.source), f"bench:{place.bucket}"),
        lambda place: (*sync, f"bench:{place.bucket}", str(place.target)),
        settings=lambda place: {
            "RCLONE_CONFIG": str(place.folder / "rclone.conf"),
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
            "RCLONE_CONFIG_BENCH_ENDPOINT": place.endpoint,
        },
    )


def _juicefs() -> Peer:
    program = _found("juicefs")
    sync = (program, "sync", "--quiet", "--no-https", "--threads", _AT_ONCE)

    def url(place: Place) -> str:
        keys = f"{place.environment['AWS_ACCESS_KEY_ID']}:{place.environment['AWS_SECRET_ACCESS_KEY']}"
        return f"minio://{keys}@{place.endpoint.removeprefix('http://')}/{place.bucket}/"

    return Peer(
        "juicefs sync",
        _version(program, "version"),
        lambda place: (*sync, f"{place.source}/", url(place)),
        lambda place: (*sync, url(place), f"{place.target}/"),
    )


def _aws() -> Peer:
    program = _found("aws")
    sync = (program, "s3", "sync", "--only-show-errors", "--size-only")

    def settings(place: Place) -> Mapping[str, str]:
        path = place.folder / "aws.ini"
        path.write_text(f"[default]\ns3 =\n  max_concurrent_requests = {_AT_ONCE}\n")
        return {"AWS_CONFIG_FILE": str(path)}

    return Peer(
        "aws s3 sync",
        _version(program, "--version"),
        lambda place: (*sync, str(place.source), f"s3://{place.bucket}"),
        lambda place: (*sync, f"s3://{place.bucket}", str(place.target)),
        settings=settings,
    )


def _restic() -> Peer:
    program = _found(RESTIC)

    def call(place: Place, machine: str, *arguments: str) -> Command:
        home = str(place.folder / machine)
        return (program, "--quiet", "--cache-dir", home, "--option", "s3.connections=16", *arguments)

    return Peer(
        RESTIC,
        _version(program, "version"),
        lambda place: call(place, "sender", "backup", "--host", "bench", str(place.source)),
        lambda place: call(place, "receiver", "restore", "latest", "--target", str(place.target)),
        prepare=lambda place: (call(place, "sender", "init"),),
        settings=lambda place: {
            "RESTIC_REPOSITORY": f"s3:{place.endpoint}/{place.bucket}",
            "RESTIC_PASSWORD": "bench",
        },
        a_request_a_file=False,
    )


def _request(program: Path, verb: str, folder: Path, bucket: str, *size: str) -> Command:
    # -P: beside these programs is a module `http`, which is not the one that libraries mean.
    return (sys.executable, "-P", str(program), verb, str(folder), bucket, *size)


def _found(name: str) -> str:
    """Return a program beside this Python, else on the path; its bare name where there is none."""
    return shutil.which(str(_BIN / name)) or shutil.which(name) or name


def _packaged(package: str, path: str) -> str | None:
    """Return a program inside a wheel, whose script would take a Python to start."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    return next((str(each.locate()) for each in files if str(each) == path), None)


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _version(program: str, argument: str) -> str | None:
    try:
        said = subprocess.run([program, argument], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"\d+\.\d+(\.\d+)?", said)
    return match[0] if match else "unknown"

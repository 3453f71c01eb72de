"""The programs that the benchmark writes with obstore, each run in a process of its own.

    python requester.py push|pull FOLDER BUCKET
    python requester.py upload|download FOLDER BUCKET SIZE

The first two move what is missing, a request a file, as many at a time as serve it best. The others move
SIZE bytes as few large objects: what any transfer of that many bytes must take.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import obstore
from obstore.store import S3Store

Item = TypeVar("Item")

AT_ONCE = 64
"""Files moved at a time."""

LARGE, LARGE_AT_ONCE = 16 * 1024 * 1024, 4
"""Bytes of a large object, and how many of those are moved at a time."""


async def push(store: S3Store, folder: Path) -> None:
    """Upload each file that the bucket lacks."""
    present = await _present(store)
    missing = [name for name, size in _files(folder).items() if present.get(name) != size]

    async def one(name: str) -> None:
        await obstore.put_async(store, name, (folder / name).read_bytes())

    await _each(one, missing, AT_ONCE)


async def pull(store: S3Store, folder: Path) -> None:
    """Download each object that the folder lacks, complete or not at all."""
    files = _files(folder)
    missing = [name for name, size in (await _present(store)).items() if files.get(name) != size]
    for parent in {(folder / name).parent for name in missing}:
        parent.mkdir(parents=True, exist_ok=True)

    async def one(name: str) -> None:
        answer = await obstore.get_async(store, name)
        temporary = folder / f"{name}.tmp"
        temporary.write_bytes(await answer.bytes_async())
        temporary.rename(folder / name)

    await _each(one, missing, AT_ONCE)


async def upload(store: S3Store, size: int) -> None:
    """Upload `size` bytes that do not compress."""

    async def one(start: int) -> None:
        await obstore.put_async(
            store, f"large/{start:016}", os.urandom(min(LARGE, size - start)), use_multipart=False
        )

    await _each(one, range(0, size, LARGE), LARGE_AT_ONCE)


async def download(store: S3Store, folder: Path, size: int) -> None:
    """Download them."""

    async def one(start: int) -> None:
        answer = await obstore.get_async(store, f"large/{start:016}")
        (folder / f"{start:016}").write_bytes(await answer.bytes_async())

    await _each(one, range(0, size, LARGE), LARGE_AT_ONCE)


async def _each(action: Callable[[Item], Awaitable[None]], items: Iterable[Item], at_once: int) -> None:
    """Do it for each item, for a number of them at a time."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await action(item)

    await asyncio.gather(*(work() for _ in range(at_once)))


async def _present(store: S3Store) -> Mapping[str, int]:
    return {
        each["path"]: each["size"] async for page in obstore.list(store, chunk_size=1000) for each in page
    }


def _files(folder: Path) -> Mapping[str, int]:
    """Return the size of each file below a folder."""
    found: dict[str, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found


def main() -> None:
    """Do as the arguments say."""
    verb, path, bucket, *size = sys.argv[1:]
    folder = Path(path)
    store = S3Store(bucket, client_options={"allow_http": True})
    folder.mkdir(parents=True, exist_ok=True)
    programs: Mapping[str, Callable[[], Awaitable[None]]] = {
        "push": lambda: push(store, folder),
        "pull": lambda: pull(store, folder),
        "upload": lambda: upload(store, int(size[0])),
        "download": lambda: download(store, folder, int(size[0])),
    }

    async def run() -> None:
        await programs[verb]()

    asyncio.run(run())
    sys.stdout.flush()
    os._exit(0)  # at an ordinary end obstore's threads meet a Python that is gone, and now and then abort


if __name__ == "__main__":
    main()

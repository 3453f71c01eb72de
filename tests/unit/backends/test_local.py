"""The fast lane and atomic writes: modes, order on the disk, what a full or broken disk does."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from casstore.backends import atomic
from casstore.backends.local import HELD_OPEN, LocalBackend
from casstore.errors import BackendError, CasstoreError, ExistsError, NotFoundError
from tests.children import ended, fork


@pytest.fixture(params=[0o022, 0o077, 0o000, 0o777], ids="umask-{0:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test under a umask."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file to upload, readable by all."""
    path = tmp_path / "source"
    path.write_bytes(b"content")
    path.chmod(0o644)
    return path


def _modes(folder: Path) -> dict[str, int]:
    found = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    return {".": stat.S_IMODE(folder.stat().st_mode), **found}


def _descriptors() -> int:
    """Return how many descriptors are open: the lowest free one shows any that leaked below it."""
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    return writer


def _open_files() -> int:
    """Return how many descriptors of regular files are open."""
    return sum(1 for number in range(2048) if _is_file(number))


def _is_file(number: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        return False


def _fill(folder: Path, source: Path) -> None:
    backend = LocalBackend(folder)
    backend.write("objects/a/one", b"x")
    backend.write("marker", b"x", exclusive=True)
    backend.upload(source, "packs/two")
    backend.upload(source, "packs/three", consume=True)


@pytest.mark.usefixtures("umask")
def test_new_store_is_private(folder: Path, source: Path) -> None:
    """Under any umask a new store has folders 0700 and files 0600."""
    _fill(folder, source)
    assert _modes(folder) == {
        ".": 0o700,
        "objects": 0o700,
        "objects/a": 0o700,
        "objects/a/one": 0o600,
        "marker": 0o600,
        "packs": 0o700,
        "packs/two": 0o600,
        "packs/three": 0o600,
    }


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("granted", "files"), [(0o770, 0o660), (0o2770, 0o660), (0o750, 0o640), (0o755, 0o644), (0o700, 0o600)]
)
def test_shared_store_follows_its_root(folder: Path, source: Path, granted: int, files: int) -> None:
    """Under any umask what is made below a folder that exists is open to whom the folder is open."""
    folder.mkdir()
    folder.chmod(granted)
    _fill(folder, source)
    assert _modes(folder) == {
        ".": granted,
        "objects": granted,
        "objects/a": granted,
        "objects/a/one": files,
        "marker": files,
        "packs": granted,
        "packs/two": files,
        "packs/three": files,
    }


@pytest.mark.usefixtures("umask")
def test_downloaded_file_is_private(folder: Path, tmp_path: Path) -> None:
    """A download is the caller's own file."""
    backend = LocalBackend(folder)
    backend.write("one", b"x")
    backend.download("one", tmp_path / "down")
    assert stat.S_IMODE((tmp_path / "down").stat().st_mode) == 0o600


def test_reading_makes_nothing(folder: Path) -> None:
    """A store that is only read is not made."""
    backend = LocalBackend(folder)
    with pytest.raises(NotFoundError):
        backend.read("one")
    assert list(backend.list("")) == []
    backend.delete("one")
    assert not folder.exists()


def test_root_may_vanish(folder: Path) -> None:
    """When somebody removes the store while it is open, the next write makes it anew."""
    backend = LocalBackend(folder)
    backend.write("objects/one", b"x")
    for path in (folder / "objects/one", folder / "objects", folder):
        path.unlink() if path.is_file() else path.rmdir()
    backend.write("objects/one", b"y")
    assert backend.read("objects/one") == b"y"


def test_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the working folder does not move an open store."""
    monkeypatch.chdir(tmp_path)
    backend = LocalBackend("store")
    backend.write("one", b"x")
    monkeypatch.chdir("/")
    assert backend.read("one") == b"x"
    assert backend.url == f"file://{tmp_path}/store"


def test_upload_takes_the_file_over(folder: Path, source: Path) -> None:
    """On one file system a file given away is renamed: the same file, no copy."""
    number = source.stat().st_ino
    LocalBackend(folder).upload(source, "packs/one", consume=True)
    assert (folder / "packs/one").stat().st_ino == number
    assert not source.exists()


def test_upload_copies_between_file_systems(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a rename cannot reach, the content is copied, and appears at once all the same."""
    replace = os.replace

    def refuse(old: str, new: str) -> None:
        if old == str(source):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        assert Path(old).read_bytes() == b"content"
        replace(old, new)

    monkeypatch.setattr(os, "replace", refuse)
    LocalBackend(folder).upload(source, "packs/one", consume=True)
    assert [path.name for path in (folder / "packs").iterdir()] == ["one"]
    assert source.read_bytes() == b"content"
    assert stat.S_IMODE((folder / "packs/one").stat().st_mode) == 0o600


def test_temporary_files_are_not_listed(folder: Path) -> None:
    """What an unfinished write left, here or in a folder of the system's, is no name."""
    backend = LocalBackend(folder)
    backend.write("m/one", b"x")
    Path(atomic.temporary_beside(str(folder / "m/two"))).write_bytes(b"half")
    (folder / "m/.snapshot").mkdir()
    (folder / "m/.snapshot/three").write_bytes(b"x")
    assert [info.name for info in backend.list("m")] == ["m/one"]
    assert sorted(atomic.is_temporary(path.name) for path in (folder / "m").iterdir()) == [False, False, True]


def test_listing_does_not_follow_links(folder: Path, tmp_path: Path) -> None:
    """A link in a shared folder leads a listing nowhere."""
    backend = LocalBackend(folder)
    backend.write("m/one", b"x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"x")
    (folder / "m/folder").symlink_to(tmp_path / "outside")
    (folder / "m/file").symlink_to(tmp_path / "outside/secret")
    assert [info.name for info in backend.list("m")] == ["m/one"]


def test_durable_write_reaches_the_disk_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With durable, the file is synced before it gets its name, and the name after."""
    backend = LocalBackend(folder, durable=True)
    backend.write("one", b"x")
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(old: str, new: str) -> None:
        steps.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    backend.write("two", b"x")
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    backend.write("new/three", b"x")
    assert steps == ["folder", "file", "rename", "folder"]
    steps.clear()
    LocalBackend(folder).write("four", b"x")
    assert steps == ["rename"]


def test_short_writes_of_the_system_are_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system takes or gives only some bytes at once, all of them arrive."""
    write, read, pread = os.write, os.read, os.pread
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 4)))
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: pread(descriptor, min(size, 2), at))
    backend = LocalBackend(folder)
    backend.write("one", b"0123456789")
    assert backend.read("one") == b"0123456789"
    assert backend.read_range("one", 1, 8) == b"12345678"


def test_read_opens_one_file_and_reads_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read is one open and one read of the known size."""
    backend = LocalBackend(folder)
    backend.write("objects/one", b"x" * 1000)
    calls: list[tuple[str, object]] = []
    opened, read = os.open, os.read

    def note_open(path: str, flags: int) -> int:
        calls.append(("open", path))
        return opened(path, flags)

    def note_read(descriptor: int, size: int) -> bytes:
        calls.append(("read", size))
        return read(descriptor, size)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "read", note_read)
    backend.read("objects/one")
    assert calls == [("open", str(folder / "objects/one")), ("read", 1000)]


@pytest.mark.parametrize(
    ("number", "kind", "transient", "words"),
    [
        (errno.ENOSPC, BackendError, False, "disk is full: free some space"),
        (errno.EDQUOT, BackendError, False, "quota is used up: free some space"),
        (errno.EACCES, BackendError, False, "permission denied"),
        (errno.EROFS, BackendError, False, "read-only"),
        (errno.EIO, BackendError, True, "reports an error: check it"),
        (errno.ESTALE, BackendError, True, "mount the share again"),
        (errno.EAGAIN, BackendError, True, "in use: try again"),
        (errno.ETIMEDOUT, BackendError, True, "no answer came in time"),
        (errno.EMFILE, BackendError, True, "too many files open: close some"),
    ],
)
def test_failed_write_leaves_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[CasstoreError],
    transient: bool,
    words: str,
) -> None:
    """A write that the disk refuses keeps the old content, leaves no file, and says what to do."""
    backend = LocalBackend(folder)
    backend.write("objects/one", b"old")

    def refuse(descriptor: int, content: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(kind, match=words) as caught:
        backend.write("objects/one", b"new")
    assert isinstance(caught.value, BackendError)
    assert caught.value.transient is transient
    assert [path.name for path in (folder / "objects").iterdir()] == ["one"]
    assert backend.read("objects/one") == b"old"


def test_folder_of_another_owner_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be read is an error that says so, never a miss."""
    backend = LocalBackend(folder)
    backend.write("one", b"x")

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BackendError, match="permission denied: check who owns"):
        backend.read("one")
    with pytest.raises(BackendError, match="permission denied: check who owns"):
        backend.read_range("one", 0, 1)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BackendError, match="cannot list the store"):
        list(backend.list(""))


def test_file_in_place_of_a_folder(folder: Path) -> None:
    """Where a file stands in the way of a folder, a read is a miss and a write says why it cannot."""
    backend = LocalBackend(folder)
    backend.write("objects", b"x")
    with pytest.raises(NotFoundError):
        backend.read("objects/one")
    with pytest.raises(BackendError, match="a file is where a folder should be"):
        backend.write("objects/one", b"x")
    assert list(backend.list("objects")) == []


def test_exclusive_write_without_hard_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that knows no links, exclusive writes are still exclusive and whole."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    backend = LocalBackend(folder)
    backend.write("one", b"first", exclusive=True)
    with pytest.raises(ExistsError):
        backend.write("one", b"second", exclusive=True)
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert backend.read("one") == b"first"


def test_exclusive_write_whose_answer_was_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that was made but reported as failed, as happens over NFS, is a success."""
    link = os.link

    def lose(old: str, new: str) -> None:
        link(old, new)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", lose)
    backend = LocalBackend(folder)
    backend.write("one", b"first", exclusive=True)
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert backend.read("one") == b"first"


@pytest.mark.parametrize("interrupted", ["write", "replace", "chmod"])
def test_interrupted_write_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    """Ctrl-C between any two steps of a write removes the temporary file."""
    backend = LocalBackend(folder)
    backend.write("one", b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, interrupted, interrupt)
    with pytest.raises(KeyboardInterrupt):
        backend.write("one", b"new")
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert (folder / "one").read_bytes() == b"old"


def test_file_system_without_modes(folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system refuses to set modes, a store works all the same."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chmod", refuse)
    backend = LocalBackend(folder)
    backend.write("objects/one", b"x")
    backend.upload(source, "packs/two", consume=True)
    assert {info.name for info in backend.list("")} == {"objects/one", "packs/two"}


def _packs(backend: LocalBackend, count: int) -> list[str]:
    names = [f"packs/{number}" for number in range(count)]
    for number, name in enumerate(names):
        backend.write(name, b"pack %05d" % number)
    return names


def test_files_read_in_parts_stay_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two parts of one file, the second is read without opening it again."""
    backend = LocalBackend(folder)
    (name,) = _packs(backend, 1)
    assert backend.read_range(name, 5, 5) == b"00000"
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it is open"))
    assert backend.read_range(name, 0, 4) == b"pack"


def test_files_held_open_are_bounded(folder: Path) -> None:
    """However many files are read in parts, few stay open, the ones that were opened last."""
    backend = LocalBackend(folder)
    names = _packs(backend, 3 * HELD_OPEN)
    before = _open_files()
    for _ in range(2):
        for number, name in enumerate(names):
            assert backend.read_range(name, 5, 5) == b"%05d" % number
    assert _open_files() - before == HELD_OPEN
    backend.close()
    assert _open_files() == before
    assert backend.read_range(names[0], 0, 4) == b"pack"


@pytest.mark.parametrize("change", ["write", "upload", "delete", "let go"])
def test_changed_files_are_opened_anew(folder: Path, source: Path, change: str) -> None:
    """What this process replaces or deletes, or is told to let go of, is not read from the old file."""
    backend = LocalBackend(folder)
    (name,) = _packs(backend, 1)
    assert backend.read_range(name, 0, 4) == b"pack"
    if change == "write":
        backend.write(name, b"new")
        assert backend.read_range(name, 0, 3) == b"new"
    elif change == "upload":
        content = source.read_bytes()
        backend.upload(source, name)
        assert backend.read_range(name, 0, 1) == content[:1]
    elif change == "delete":
        backend.delete(name)
        with pytest.raises(NotFoundError):
            backend.read_range(name, 0, 1)
    else:
        (folder / "other").write_bytes(b"from another process")
        (folder / "other").replace(folder / name)
        assert backend.read_range(name, 0, 4) == b"pack"
        backend.let_go(name)
        assert backend.read_range(name, 0, 4) == b"from"


def test_threads_may_read_what_others_let_go(folder: Path) -> None:
    """A file is closed when its last reader is done, so that no read hits a descriptor of another file."""
    backend = LocalBackend(folder)
    names = _packs(backend, 2 * HELD_OPEN)

    def read(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(600):
            number = chance.randrange(len(names))
            if chance.random() < 0.1:
                backend.let_go(names[number])
            assert backend.read_range(names[number], 5, 5) == b"%05d" % number

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(read, seed) for seed in range(8)]:
            done.result()


def test_child_reads_from_files_its_parent_holds(folder: Path) -> None:
    """Parent and child read parts of one file side by side, since neither moves a common position."""
    backend = LocalBackend(folder)
    (name,) = _packs(backend, 1)
    backend.read_range(name, 0, 4)

    def work() -> None:
        assert all(backend.read_range(name, 5, 5) == b"00000" for _ in range(200))
        backend.close()

    child = fork(work)
    assert all(backend.read_range(name, 0, 4) == b"pack" for _ in range(200))
    assert ended(child) == 0
    assert backend.read_range(name, 0, 4) == b"pack"


def test_no_descriptor_stays_open(folder: Path, source: Path, tmp_path: Path) -> None:
    """Successes and failures alike close what they opened."""
    backend = LocalBackend(folder)
    backend.write("one", b"x")
    attempts: list[Callable[[], object]] = [
        lambda: backend.read("one"),
        lambda: backend.read("none"),
        lambda: backend.read_range("one", 0, 9),
        lambda: backend.write("one", b"y", exclusive=True),
        lambda: backend.write("two/three", b"y"),
        lambda: backend.upload(source, "four"),
        lambda: backend.download("four", tmp_path / "down"),
        lambda: backend.download("four", tmp_path / "no/down"),
        lambda: list(backend.list("")),
    ]
    before = _descriptors()
    for attempt in attempts:
        try:
            attempt()
        except CasstoreError:
            continue
    backend.close()
    after = _descriptors()
    assert after == before


def test_local_store_loads_no_driver(folder: Path) -> None:
    """Opening, writing and reading a local store imports none of the heavy modules."""
    program = (
        "import sys, casstore.backends\n"
        f"backend = casstore.backends.open_backend({str(folder)!r})\n"
        "backend.write('one', b'x'); backend.read('one'); list(backend.list(''))\n"
        "heavy = {'fsspec', 's3fs', 'aiobotocore', 'botocore', 'aiohttp', 'asyncio', 'tempfile', 'shutil',"
        " 'uuid', 'random', 'click', 'rich', 'sqlite3', 'zstandard'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

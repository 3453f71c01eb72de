"""A store on a network file system is refused, a remote there is not; see designs/platforms.md."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from casstore import Cache, Repository
from casstore.config import mounts
from casstore.config.mounts import Mount, network_mount, read_mounts
from casstore.errors import ConfigError
from tests.stores import answers, fill

Mounted = Callable[..., None]


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Return a function that mounts a file system, in the table alone; a later one hides earlier ones."""
    table = tmp_path / "mountinfo"
    table.write_text("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)

    def mount(folder: Path, kind: str, source: str = "none", options: str = "rw") -> None:
        folder.mkdir(exist_ok=True)
        escaped = str(folder).replace("\\", "\\134").replace(" ", "\\040")
        with table.open("a") as lines:
            lines.write(f"40 22 0:99 / {escaped} rw,relatime - {kind} {source} {options}\n")

    return mount


def test_a_store_on_a_network_file_system_is_refused_in_one_line(tmp_path: Path, mounted: Mounted) -> None:
    """What happened, why, and the ways out; nothing is written there."""
    home = tmp_path / "home"
    mounted(home, "nfs4", "server:/home")
    with pytest.raises(ConfigError) as raised:
        Repository.open(home / "cache" / "casstore")
    assert str(raised.value) == (
        f"the store {home}/cache/casstore is on a network file system (nfs4), where two hosts damage its"
        " SQLite index; set CASSTORE_DIR to a folder on a local disk, and share this folder as a remote:"
        f" casstore remote add NAME {home}/cache/casstore; or, if only one host uses it:"
        " CASSTORE_ALLOW_NETWORK=true"
    )
    assert list(home.iterdir()) == []


def test_a_cache_there_is_refused_before_the_first_call(tmp_path: Path, mounted: Mounted) -> None:
    """Not run without a store: every call would be paid, run after run."""
    mounted(tmp_path / "home", "lustre")
    with pytest.raises(ConfigError, match="lustre"):
        Cache(tmp_path / "home")


def test_the_advice_for_a_store_that_is_there_works(
    tmp_path: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copy it, add the folder as a remote with the very command: a push shares all that was there."""
    share, copy = tmp_path / "a share", tmp_path / "copy"
    share.mkdir()
    with Repository.open(share / "store") as repository:
        fill(repository, range(3))
        before = answers(repository)
    mounted(share, "cifs", "//server/share")
    with pytest.raises(ConfigError) as raised:
        Repository.open(share / "store")
    assert "copy it to a local disk (cp -R), set CASSTORE_DIR to the copy" in str(raised.value)
    found = re.search(r"casstore (remote add .*?);", str(raised.value))
    assert found

    shutil.copytree(share / "store", copy)
    monkeypatch.setenv("CASSTORE_DIR", str(copy))
    monkeypatch.setattr(sys, "argv", ["casstore", *shlex.split(found[1])])
    from casstore.cli.root import main

    with pytest.raises(SystemExit, match="0"):
        main()
    with Repository.open() as repository:
        repository.push()
    with Repository.open(tmp_path / "colleague") as colleague:
        colleague.pull(str(share / "store"))
        assert answers(colleague) == before


def test_a_remote_on_a_network_file_system_is_allowed(tmp_path: Path, mounted: Mounted) -> None:
    """Remotes have no index: files appear whole, under names of their own."""
    mounted(tmp_path / "share", "nfs4", "server:/share")
    remote = str(tmp_path / "share" / "team")
    with Repository.open(tmp_path / "here") as here, Repository.open(tmp_path / "there") as there:
        fill(here, range(3))
        here.push(remote)
        there.pull(remote)
        assert answers(there) == answers(here)


def test_the_variable_or_the_setting_allows_it(
    tmp_path: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable goes first; it is checked like a setting."""
    mounted(tmp_path / "home", "gpfs")
    store = tmp_path / "home" / "store"
    monkeypatch.setenv("CASSTORE_ALLOW_NETWORK", "1")
    Repository.open(store).close()
    (store / "config.toml").write_text("allow_network = true\n")
    monkeypatch.setenv("CASSTORE_ALLOW_NETWORK", "false")
    with pytest.raises(ConfigError, match="network file system"):
        Repository.open(store)
    monkeypatch.setenv("CASSTORE_ALLOW_NETWORK", "perhaps")
    with pytest.raises(ConfigError, match=r"CASSTORE_ALLOW_NETWORK: must be true or false, not 'perhaps'"):
        Repository.open(store)
    monkeypatch.delenv("CASSTORE_ALLOW_NETWORK")
    Repository.open(store).close()


@pytest.mark.parametrize(
    ("kind", "source", "options", "network"),
    [
        ("ext4", "/dev/sda1", "rw", False),
        ("zfs", "tank/a:b", "rw", False),
        ("overlay", "overlay", "rw", False),
        ("9p", "C:\\134", "rw,trans=fd,rfd=5", False),
        ("9p", "host", "rw,trans=tcp,port=564", True),
        ("virtiofs", "mount0", "rw", False),
        ("fuse.bindfs", "/srv", "rw", False),
        ("fuse.sshfs", "me@host:", "rw", True),
        ("fuse.new-thing", "host:/export", "rw", True),
        ("fuse", "https://cloud/dav", "rw", True),
        ("macfuse", "me@host:/home", "rw", True),
        ("ksmbd-like", "//server/share", "rw", True),
        ("nfs", "none", "rw", True),
        ("lustre", "10.0.0.1@tcp:/scratch", "rw", True),
        ("beegfs", "beegfs_nodev", "rw", True),
        ("fuse.glusterfs", "vol", "rw", True),
    ],
)
def test_a_file_system_is_a_network_one_by_its_type_or_its_source(
    kind: str, source: str, options: str, network: bool
) -> None:
    """A type that is not listed still shows a host in what is mounted."""
    assert Mount(1, "/x", kind, source, options).is_network == network


def test_the_innermost_mount_counts_and_the_last_of_two(tmp_path: Path, mounted: Mounted) -> None:
    """A local disk inside a share is local; an automounter's line is hidden by the share it mounts."""
    home, scratch = tmp_path / "home", tmp_path / "home" / "scratch disk"
    mounted(home, "autofs", "/etc/auto.home")
    assert network_mount(home) is None
    mounted(home, "nfs4", "server:/home")
    mounted(scratch, "xfs", "/dev/sdb1")
    found = network_mount(home / "not" / "there" / "yet")
    assert found is not None
    assert found.source == "server:/home"
    assert network_mount(tmp_path / "homes") is None
    assert network_mount(scratch / "store") is None


def test_a_link_leads_to_the_share(tmp_path: Path, mounted: Mounted) -> None:
    """The default folder is often a link to another disk."""
    mounted(tmp_path / "share", "nfs")
    (tmp_path / "link").symlink_to(tmp_path / "share")
    assert network_mount(tmp_path / "link" / "store") is not None


def test_the_device_tells_which_of_two_mounts_holds_a_folder(tmp_path: Path, mounted: Mounted) -> None:
    """A longer mount point may be hidden by a later mount above it."""
    mounted(tmp_path / "share", "nfs")
    device = tmp_path.stat().st_dev
    with mounts.MOUNT_TABLE.open("a") as table:
        table.write(f"41 22 {os.major(device)}:{os.minor(device)} / {tmp_path} rw - ext4 /dev/sdc1 rw\n")
    assert network_mount(tmp_path / "share") is None


def test_a_table_that_cannot_be_read_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of another form are skipped."""
    monkeypatch.setattr(mounts, "MOUNT_TABLE", tmp_path / "none")
    assert network_mount(tmp_path) is None
    (tmp_path / "none").write_bytes(b"nonsense\n1 2 x:y / / rw - nfs a b\n\xff - \xff\n\n")
    assert read_mounts(0) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads the table of Linux")
def test_the_table_of_this_machine_is_read() -> None:
    """Of every kernel that runs the tests."""
    assert "/" in {mount.folder for mount in read_mounts(0)}


def test_the_table_of_macos_is_what_mount_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for only off the startup disk; a folder's name may hold anything but a newline."""
    printed = (
        "/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)\n"
        f"server:/export on {tmp_path}/a on (b) (nfs, nodev, nosuid, mounted by me)\n"
    )
    asked: list[object] = []

    def run(command: object, **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess([], 0, printed.encode())

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(mounts, "_MACOS_LOCAL", ("/nowhere",))
    store = tmp_path / "a on (b)" / "store"
    store.mkdir(parents=True)
    found = network_mount(store)
    assert found is not None
    assert found.kind == "nfs"
    assert network_mount(tmp_path) is None
    assert asked == [["/sbin/mount"]] * 2
    monkeypatch.setattr(mounts, "_MACOS_LOCAL", (str(tmp_path),))
    assert network_mount(store) is None
    assert len(asked) == 2


def test_a_hit_reads_no_mount_table(
    tmp_path: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once, when the store is opened."""
    mounted(tmp_path / "share", "nfs")
    looked: list[Path] = []
    monkeypatch.setattr(mounts, "network_mount", looked.append)
    with Repository.open(tmp_path / "store") as repository:
        fill(repository, range(3))
        assert len(answers(repository)) == 3
    assert looked == [tmp_path / "store"]

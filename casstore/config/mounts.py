"""Detect a store on a network file system, and refuse it there.

Input: the system's mount table. No file of the store is opened.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from casstore.errors import ConfigError

MOUNT_TABLE = Path("/proc/self/mountinfo")
"""Linux: the mounts that this process sees, one a line; see proc_pid_mountinfo(5)."""

NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afpfs", "webdav", "afs", "auristorfs", "coda"),
        *("lustre", "gpfs", "beegfs", "fhgfs", "ceph", "panfs", "pvfs2", "wekafs", "ibrix", "snfs"),
        *("gfs", "gfs2", "ocfs2", "acfs"),
    }
)
"""Types of file systems that several hosts mount at once.

Sources: the names in the Linux kernel (nfs, nfs4, cifs, smb3, ncpfs, afs, coda, ceph, pvfs2, gfs2, ocfs2);
``me_remote`` in gnulib's mountlist.c and the types that coreutils' stat.c calls remote (acfs, auristorfs,
fhgfs, gfs, gpfs, ibrix, lustre, panfs, smbfs, snfs); mount_afp(8), mount_webdav(8) and mount_smbfs(8) of
macOS; the manuals of BeeGFS and Weka.
"""

NETWORK_FUSE = frozenset(
    {
        *("sshfs", "glusterfs", "ceph-fuse", "ceph", "beegfs", "gvfsd-fuse", "smbnetfs", "curlftpfs"),
        *("s3fs", "gcsfuse", "blobfuse", "blobfuse2", "goofys", "mount-s3", "rclone", "juicefs"),
        *("seaweedfs", "moosefs", "mfs", "lizardfs"),
    }
)
"""Subtypes after ``fuse.`` in the mount table. Other FUSE file systems (ntfs-3g, bindfs) count as local."""

_MACOS_MOUNT = "/sbin/mount"  # prints SOURCE on FOLDER (TYPE, OPTION, ...); see mount(8) of macOS
_MACOS_PATIENCE = 5.0  # seconds: it asks no server
_MACOS_LOCAL = ("/", "/System/Volumes/Data")  # the disk that macOS starts from, which is never a share


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table.

    Attributes:
        device: ``st_dev`` of its files; -1 if the table does not have it.
        folder: Where it is mounted.
        kind: The type of file system; a FUSE one with its subtype.
        source: What is mounted: a device, ``host:/path``, ``//host/share``.
        options: The options of the file system.
    """

    device: int
    folder: str
    kind: str
    source: str = ""
    options: str = ""

    @property
    def is_network(self) -> bool:
        """Whether several hosts may mount it at once.

        A source like ``host:/path`` or ``//host/share`` says so whatever the type. 9p counts if its transport
        is a network. Other folders that a virtual machine gets from its host (9p, virtiofs, vboxsf) count as
        local: many containers have their root on one.
        """
        family, _, subtype = self.kind.partition(".")
        return (
            self.kind in NETWORK
            or (family == "fuse" and subtype in NETWORK_FUSE)
            or (family == "9p" and not {"trans=tcp", "trans=rdma"}.isdisjoint(self.options.split(",")))
            or ":/" in self.source
            or self.source.startswith("//")
        )

    def holds(self, path: str) -> bool:
        """Return whether `path` is the mount point or below it."""
        return path == self.folder or path.startswith(self.folder.rstrip("/") + "/")


def check_local(folder: Path, *, allowed: bool) -> None:
    """Refuse a store on a network file system, where two hosts damage the SQLite index.

    Args:
        folder: The store; it need not exist yet.
        allowed: Whether the user allows it: ``Config.network_allowed``.

    Raises:
        ConfigError: The folder is on a network file system, and that is not allowed.
    """
    if allowed:
        return
    mount = network_mount(folder)
    if mount is not None:
        raise ConfigError(_refusal(folder, mount.kind))


def network_mount(folder: Path) -> Mount | None:
    """Return the network file system that holds `folder`.

    Returns:
        None for a local file system, or if the mount table cannot be read.
    """
    path = os.path.realpath(folder)
    while not os.path.exists(path):  # noqa: PTH110 - a path that `realpath` returned
        path = os.path.dirname(path)  # noqa: PTH120
    device = os.stat(path).st_dev  # noqa: PTH116 - before the table is read: an automounter mounts it now
    mount = _holding(read_mounts(device), path, device)
    return mount if mount is not None and mount.is_network else None


def read_mounts(device: int) -> list[Mount]:
    """Return the mount table in its order; empty if it cannot be read. Lines of another form are skipped.

    Args:
        device: ``st_dev`` of the folder in question. On macOS, where the table costs a process, none is read
            for the startup disk.
    """
    parse, text = (_mac_mount, _mac_table(device)) if sys.platform == "darwin" else (_linux_mount, _table())
    return [mount for line in text.splitlines() if (mount := parse(line))]


def _table() -> str:
    try:
        return os.fsdecode(MOUNT_TABLE.read_bytes())
    except OSError:
        return ""


def _linux_mount(line: str) -> Mount | None:
    place, _, what = line.partition(" - ")
    try:
        _, _, device, _, folder, *_ = place.split(" ")
        kind, source, options = what.split(" ", 2)
        major, minor = map(int, device.split(":"))
    except ValueError:
        return None
    return Mount(os.makedev(major, minor), _unescaped(folder), kind, _unescaped(source), options)


def _unescaped(text: str) -> str:
    """Replace the escapes of the Linux table: space, tab, newline, backslash and # in octal."""
    if "\\" not in text:
        return text
    for octal in ("040", "011", "012", "043", "134"):  # the backslash last: it begins no further escape
        text = text.replace(f"\\{octal}", chr(int(octal, 8)))
    return text


def _mac_table(device: int) -> str:
    if any(os.path.exists(path) and os.stat(path).st_dev == device for path in _MACOS_LOCAL):  # noqa: PTH110, PTH116
        return ""
    import subprocess

    try:
        ran = subprocess.run([_MACOS_MOUNT], capture_output=True, check=True, timeout=_MACOS_PATIENCE)  # noqa: S603 - a constant
        return os.fsdecode(ran.stdout)
    except (OSError, subprocess.SubprocessError):
        return ""


def _mac_mount(line: str) -> Mount | None:
    rest, bracket, options = line.rpartition(" (")
    source, on, folder = rest.partition(" on ")
    kind, _, options = options.removesuffix(")").partition(", ")
    return Mount(-1, folder, kind, source, options) if bracket and on else None


def _holding(mounts: list[Mount], path: str, device: int) -> Mount | None:
    """Return the mount of a path: the longest prefix, and the last of equals, which hides the others.

    A mount with the path's own device goes first: a longer one may be hidden by a later mount above it.
    """
    found = [mount for mount in mounts if mount.holds(path)]
    found = [mount for mount in found if mount.device == device] or found
    return max(reversed(found), key=lambda mount: len(mount.folder), default=None)


def _refusal(folder: Path, kind: str) -> str:
    from shlex import quote

    there = (folder / "casstore.json").exists()
    local = (
        "copy it to a local disk (cp -R), set CASSTORE_DIR to the copy"
        if there
        else "set CASSTORE_DIR to a folder on a local disk"
    )
    return (
        f"the store {folder} is on a network file system ({kind}), where two hosts damage its SQLite index;"
        f" {local}, and share this folder as a remote: casstore remote add NAME {quote(str(folder))};"
        " or, if only one host uses it: CASSTORE_ALLOW_NETWORK=true"
    )

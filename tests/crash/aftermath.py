"""What must hold in a store after a process died in it, whenever that was."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from casstore.backends import open_backend
from casstore.backends.base import Backend
from casstore.catalog.database import Database
from casstore.digest import Key
from casstore.errors import NotFoundError
from casstore.repo import repository as repositories
from casstore.repo.repository import Repository
from tests.format.reader import Reading, check_promises, read_store
from tests.stores import answers


def die(repository: Repository) -> None:
    """Let go of what a system lets go of when a process dies: locks and connections; nothing is flushed."""
    repositories._OPEN.discard(repository)
    repository.local.journal._leave()
    Database.close(repository.local.index)


def check_local(root: Path, expected: dict[Key, bytes], *, all_of_it: bool = True) -> None:
    """Check a store that was left by a dead process: read by a second reader, by casstore, and verified.

    Args:
        root: Its folder; it is verified in a copy, since to verify is also to heal.
        expected: The right answers.
        all_of_it: Whether each must be there; else whatever is there must be right.
    """
    found = {key: content for key, content in read_store(root).answers().items() if content is not None}
    assert found.items() <= {str(key): content for key, content in expected.items()}.items()
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(root, Path(folder) / "store")
        with Repository.open(copy) as repository:
            assert not repository.verify().failures
    with Repository.open(root) as repository:
        held = {key: content for key, content in answers(repository).items() if content is not None}
    if all_of_it:
        assert held == expected
    assert held.items() <= expected.items()


def check_remote(root: Path, expected: dict[Key, bytes]) -> Reading | None:
    """Check a remote into which a dead process pushed: nothing torn, no name that leads to nothing."""
    if not (root / "casstore.json").exists():
        assert not [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return None
    reading = check_promises(root)
    assert reading.answers().items() <= {str(key): content for key, content in expected.items()}.items()
    return reading


def mirror(url: str, folder: Path) -> Path:
    """Copy a remote, file by file, as it is listed, into a local folder."""
    backend = open_backend(url)
    try:
        for name in [info.name for part in ("objects", "packs", "manifest") for info in backend.list(part)]:
            _save(backend, name, folder)
        _save(backend, "casstore.json", folder)
    except NotFoundError:  # not begun
        pass
    finally:
        backend.close()
    return folder


def _save(backend: Backend, name: str, folder: Path) -> None:
    path = folder / name
    content = backend.read(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

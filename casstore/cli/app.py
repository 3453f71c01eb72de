"""What every command is given: which store it is about.  Floor: cli.

Opens nothing until a command asks for it, so that help and usage errors come at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.cli import output
from casstore.config import Config, resolve_remote, store_path
from casstore.errors import NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from casstore.repo.repository import Repository


@dataclass(slots=True)
class Application:
    """The command line's one object.

    Attributes:
        store: The folder that ``--store`` named, if it did.
    """

    store: str | None = None

    @property
    def folder(self) -> Path:
        """The folder of the store: ``--store``, ``CASSTORE_DIR``, else in the user's cache folder."""
        return store_path(self.store)

    def repository(self, *, create: bool = False) -> Repository:
        """Open the store, to be used in a ``with`` block.

        Args:
            create: Make the store where there is none: for commands that bring something into it.

        Raises:
            NotFoundError: There is no store, and none is to be made.
        """
        from casstore.repo.repository import Repository

        return Repository.open(self.folder, create=create, on_event=output.warn)

    def settings_folder(self, *, create: bool = False) -> Path:
        """Return the folder of the store whose settings are to be changed.

        The index is not opened: a setting may be what lets it be opened.

        Args:
            create: Make the store where there is none.

        Raises:
            NotFoundError: There is no store, and none is to be made.
        """
        from casstore.repo.repository import begin

        begin(self.folder, durable=False, create=create)
        return self.folder

    def repository_for(self, remote: str | None) -> Repository:
        """Open the store to bring into it what a remote has; see `repository`.

        It is made where there is none, unless there is none at the remote either.

        Args:
            remote: The remote's name, URL or path; None for the one that is configured.

        Raises:
            NotFoundError: There is neither.
        """
        from casstore.repo.remote import find_store

        try:
            return self.repository()
        except NotFoundError:
            config = Config.load(self.folder)
            found = find_store(resolve_remote(config, remote), durable=config.durable)
            repository = self.repository(create=True)
            repository.meet(found)
            return repository

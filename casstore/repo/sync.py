"""Status: what a push and a pull would do.  Floor: repo.

Writing, objects go first, then the segment that names them (`casstore.repo.push`); reading, it is the other
way round (`casstore.repo.pull`). Whatever stops either, running it again completes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from casstore.catalog.holding import remotes_holding
from casstore.repo.pull import planned_pull, pull
from casstore.repo.push import planned_push, push
from casstore.repo.recover import recovered
from casstore.repo.run import Report

if TYPE_CHECKING:
    from casstore.digest import Digest
    from casstore.repo.local import Local
    from casstore.repo.plan import Failure
    from casstore.repo.plan_pull import PullPlan
    from casstore.repo.plan_push import PushPlan
    from casstore.repo.repository import Repository

__all__ = ["Report", "Status", "pull", "push", "status"]


@dataclass(frozen=True, slots=True)
class Status:
    """What a push and a pull would do."""

    push: PushPlan
    pull: PullPlan

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Segments of the remote that were refused."""
        return self.push.failures


def status(
    repository: Repository, name: str | None, *, manifest_only: bool = False, first: bool = False
) -> Status:
    """Return what a push and a pull would do; `first`, also where there is no store yet."""
    remote = repository.remote(name)
    local = repository.local
    with recovered(local):
        refreshed = remote.refresh(first=first)
        return Status(
            planned_push(local, remote, refreshed, partial(_is_held, local), listed=True),
            planned_pull(repository, remote, refreshed, manifest_only=manifest_only, listed=True),
        )


def _is_held(local: Local, dictionary: Digest) -> bool:
    return local.has_dictionary(dictionary) or bool(remotes_holding(local.index, dictionary))

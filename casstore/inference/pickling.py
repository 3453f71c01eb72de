"""How caches pickle: as their arguments, to be opened at the first use."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from casstore.config.location import STORE_VARIABLE, store_path

T = TypeVar("T")

_BY_VALUE: Final = ("cloudpickle", "dill")
"""Modules that pickle lambdas and local functions: the last parts of their names, as joblib has a copy."""

_opening = threading.RLock()
"""Held while an unpickled object is opened, which several threads may use at once."""


def portable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a cache as another process needs them, which may run in another folder.

    Args:
        arguments: The arguments by name; ``repository`` is one of them.
    """
    given = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
    repository = given["repository"]
    if isinstance(repository, (str, Path)) or (repository is None and os.environ.get(STORE_VARIABLE)):
        given["repository"] = store_path(repository)
    return given


def arrived(cls: type[T], given: dict[str, Any]) -> T:
    """Return an unpickled object, which `open_arrived` opens when it is first used."""
    made = cls.__new__(cls)
    made.__dict__.update(_given=given, _unopened=True)
    return made


def open_arrived(made: object) -> None:
    """Run the constructor of an unpickled object, once."""
    with _opening:
        if made.__dict__.pop("_unopened", False):
            try:
                made.__init__(**made.__dict__["_given"])  # type: ignore[misc]
            except BaseException:
                made.__dict__["_unopened"] = True  # the next use raises it again
                raise


def check_pickles(what: str, arguments: Mapping[str, object]) -> None:
    """Check that every argument can be pickled, since pickle's own error does not name the argument.

    Where a library is loaded that pickles more than the standard one, nothing is refused: it raises its own
    error.

    Args:
        what: What the arguments are for, as the message names it.
        arguments: The arguments by name.

    Raises:
        pickle.PicklingError: One of them cannot be pickled.
    """
    import pickle  # a process that only hits does not need it

    for name, value in arguments.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            if any(module.rpartition(".")[2] in _BY_VALUE for module in list(sys.modules)):
                return
            raise pickle.PicklingError(
                f"{what}(..., {name}={value!r}) cannot be sent to another process: {error};"
                " use a function of a module, or leave the argument out"
            ) from error


def _renew_lock() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _opening  # noqa: PLW0603
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)

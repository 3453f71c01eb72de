"""What push, pull and status print.  Floor: cli."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from casstore.cli.output import by_verb, count, document, failure_fields, line, note, note_failures
from casstore.config import format_size

if TYPE_CHECKING:
    import click

    from casstore.repo.plan import Plan
    from casstore.repo.sync import Report

VERBS = ("GET", "PUT", "LIST", "HEAD", "DELETE")
REPAIR = (
    "what {0} has lost is sent again where it still is: run casstore gc {0} and then casstore push {0} there."
    " Of what is damaged, remove the file from {0} first"
)
_DONE = {"push": "pushed", "pull": "pulled"}
_WHERE = {"push": "to", "pull": "from"}
_LEFT = {
    "push": "{} not in this store, so left out",
    "pull": "{} left at the remote, beyond the size cap; fetched when used, or raise max_size and pull again",
}


_MISSING = (
    "{} known at {}, but missing or damaged there when asked for, and in no other store that is known;"
    " once restored there, run casstore pull --again {again}"
)


_MADE = (
    "made the folder {0} with mode 0700, so that only you can read it; for a team:"
    " chgrp -R GROUP {0} && chmod -R g+rwX {0} && find {0} -type d -exec chmod g+s {{}} +"
)


def plan_fields(plan: Plan) -> dict[str, Any]:
    """Return the JSON of a plan."""
    moves = [{"digest": move.digest, "size": move.size, "stored": move.stored} for move in plan.objects]
    return {
        "operation": plan.operation,
        "remote": plan.remote,
        "dry_run": True,
        "objects": plan.count,
        "packs": plan.pack_count,
        "entries": plan.entries,
        "bytes": plan.bytes,
        "requests": _requests(plan.requests),
        "left": plan.left,
        "moves": moves,
        **_missing_field(plan),
    }


def report_fields(report: Report) -> dict[str, Any]:
    """Return the JSON of a transfer that was done."""
    return {
        "operation": report.operation,
        "remote": report.remote,
        "dry_run": False,
        "objects": report.objects,
        "packs": report.packs,
        "entries": report.entries,
        "bytes": report.bytes,
        "requests": _requests(report.requests),
        "left": report.left,
        "seconds": report.seconds,
        "failures": failure_fields(report.failures),
        **_missing_field(report),
    }


def print_plan(ctx: click.Context, plan: Plan, *, as_json: bool) -> NoReturn:
    """Print what a transfer would do, and end with `code_of`."""
    if as_json:
        document(plan_fields(plan) | {"failures": failure_fields(plan.failures)})
    else:
        note_failures(plan.failures)
        where = f"{_WHERE[plan.operation]} {plan.remote}"
        line(f"would {plan.operation} {_planned(plan)} {where}\n{by_verb(plan.requests)}")
        _note_left(plan)
    ctx.exit(code_of(plan))


def finish(ctx: click.Context, report: Report, *, as_json: bool) -> NoReturn:
    """Print what a transfer did, and end with `code_of`."""
    if report.made is not None:
        note(_MADE.format(shlex.quote(str(report.made))))
    if as_json:
        document(report_fields(report))
    else:
        note_failures(report.failures)
        where = f"{_WHERE[report.operation]} {report.remote}"
        what = _what(report.objects, report.packs, report.bytes, report.entries)
        line(f"{_DONE[report.operation]} {what} {where}")
        line(f"{by_verb(report.requests)}, {report.seconds:.2f} s")
        _note_left(report)
        if report.operation == "pull" and any("/" not in failure.name for failure in report.failures):
            note(REPAIR.format(shlex.quote(report.remote)))  # objects, not segments
    ctx.exit(code_of(report))


def code_of(*found: Plan | Report) -> int:
    """Return the exit code: 1 where something failed or is missing, at each run until that is mended.

    What stays behind by rule (`left`) is a note, and no failure.
    """
    return 1 if any(each.failures or each.missing for each in found) else 0


def print_direction(plan: Plan) -> None:
    """Print one direction of a status."""
    line(f"{plan.operation:<8}{_planned(plan)}\n{'':8}{by_verb(plan.requests)}")
    _note_missing(plan)


def _planned(plan: Plan) -> str:
    return _what(plan.count, plan.pack_count, plan.bytes, plan.entries)


def _what(objects: int, packs: int, size: int, entries: int) -> str:
    """Return what moves, for people."""
    if not objects and not entries:
        return f"a dictionary ({format_size(size)})" if size else "nothing"
    if not objects:  # what was forgotten, or whose bytes are there already
        return f"no objects, {count(entries, 'new or ended entry')}"
    inside = f" in {count(packs, 'pack')}" if packs else ""
    return f"{count(objects, 'object')}{inside} ({format_size(size)}), {count(entries, 'entry')}"


def _note_left(moved: Plan | Report) -> None:
    if moved.left:
        note(_LEFT[moved.operation].format(count(moved.left, "object")))
    _note_missing(moved)


def _note_missing(moved: Plan | Report) -> None:
    if moved.missing:
        note(_MISSING.format(count(moved.missing, "object"), moved.remote, again=shlex.quote(moved.remote)))


def _missing_field(moved: Plan | Report) -> dict[str, int]:
    return {"missing": moved.missing} if moved.operation == "pull" else {}


def _requests(requests: Mapping[str, int]) -> dict[str, int]:
    return dict.fromkeys(VERBS, 0) | dict(requests)

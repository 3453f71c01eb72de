"""``casstore repack``.  Floor: cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.config import format_size

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.repo.plan_repack import RepackPlan
    from casstore.repo.repack import RepackReport


@command(
    "repack",
    examples="""
    casstore repack --dry-run
    casstore repack --json | jq .blocks
    """,
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
@click.pass_context
def repack(ctx: click.Context, app: Application, *, dry_run: bool, as_json: bool) -> None:
    """Put small objects into packs, which takes less of the disk.

    Objects under 1 MiB that have a file each go into packs of some thousands, compressed with a dictionary
    that is trained on them; one alone stays as it is. Small packs are merged, and packs of which half is no
    longer in use are written anew without it. Exits with 1 where an object could not be read.
    """
    if dry_run:
        with app.repository() as repo:
            _print_plan(repo.plan_repack(), as_json=as_json)
        return
    with app.repository() as repo, output.progress() as on_event:
        report = repo.repack(on_event=on_event)
    if as_json:
        output.document(_fields(report))
    else:
        output.failures(report.failures)
        output.line(_summary(report))
    ctx.exit(1 if report.failures else 0)


def _print_plan(plan: RepackPlan, *, as_json: bool) -> None:
    merged = sum(map(len, plan.merged)) + len(plan.thinned)
    if as_json:
        output.document({"objects": plan.objects, "bytes": plan.bytes, "packs": merged})
        return
    steps = []
    if plan.objects:
        steps.append(f"pack {output.count(plan.objects, 'object')} ({format_size(plan.bytes)})")
    if merged:
        steps.append(f"rewrite {output.count(merged, 'pack')}")
    output.line(f"would {' and '.join(steps)}" if steps else "nothing to pack")


def _summary(report: RepackReport) -> str:
    if not report.objects and not report.replaced:
        return "nothing to pack"
    what = {"object": report.objects, "pack": report.replaced}
    packed = " and ".join(output.count(number, noun) for noun, number in what.items() if number)
    into = f" into {output.count(report.packs, 'pack')}" if report.packs else ""
    sizes = f"{format_size(report.before)} became {format_size(report.after)}"
    disk = "freed" if report.blocks >= 0 else "taken"
    blocks = f"{format_size(abs(report.blocks))} of the disk {disk}"
    return f"{'packed' if into else 'removed'} {packed}{into}: {sizes}, {blocks}"


def _fields(report: RepackReport) -> dict[str, object]:
    return {
        "objects": report.objects,
        "packs": report.packs,
        "replaced": report.replaced,
        "before": report.before,
        "after": report.after,
        "blocks": report.blocks,
        "failures": output.failure_fields(report.failures),
    }

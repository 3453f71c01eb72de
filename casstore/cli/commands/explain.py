"""``casstore explain``.  Floor: cli."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from casstore.cli import output
from casstore.cli.choosing import cache_of, http_of, key_options
from casstore.cli.command import command, json_option
from casstore.config import format_size
from casstore.errors import ConfigError

if TYPE_CHECKING:
    from casstore.cli.app import Application
    from casstore.inference.reading.explain import Explanation


@command(
    "explain",
    examples="""
    casstore explain request.json
    casstore explain --provider openai call.json
    casstore show 1f3a --json | jq .request | casstore explain -
    casstore explain request.json --json | jq -r '.nearest.differences[].path'
    """,
)
@click.argument("request", metavar="REQUEST.json")
@click.option("-p", "--provider", metavar="NAME", help="The file has the parameters of this provider's SDK.")
@click.option("--url", metavar="URL", help="The base URL that the SDK was given, if any.")
@click.option("--sample", type=click.IntRange(0), default=0, help="Which of several answers. [default: 0]")
@click.option("--streams", is_flag=True, help="As for a program that records streams.")
@key_options
@json_option
def explain(
    app: Application,
    request: str,
    *,
    provider: str | None,
    url: str | None,
    sample: int,
    streams: bool,
    namespace: str,
    tag: str,
    ignore_fields: tuple[str, ...],
    aliases: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say why a request hits or misses.

    A hit, a miss, or a request that passes by the cache, and why; the key, and what it is made of. For a
    miss, the nearest stored request and where it differs: of the newest 200 of the same provider and path,
    those of the same model first.

    REQUEST.json, or - for standard input, is an HTTP request, an object with method, url, headers and body;
    or with --provider or --url, the parameters of an SDK's call; or a request as casstore show --json
    prints it. As google-genai rewrites its parameters, of google it is the body that is sent, and model.
    """
    from casstore.inference.reading.asked import parse_request

    text = sys.stdin.buffer.read() if request == "-" else Path(request).read_bytes()
    try:
        asked = parse_request(text)
    except ConfigError as error:
        raise ConfigError(f"{'standard input' if request == '-' else request}: {error}") from None
    with app.repository() as repo, cache_of(repo, namespace, aliases) as cache:
        from casstore.inference.reading.asked import read_request
        from casstore.inference.reading.explain import explain as explained

        with cache.using(sample=sample, tag=tag):
            http = http_of(cache, ignore_fields, streams=streams)
            found = explained(http, read_request(asked, provider, url))
    if as_json:
        output.document(_fields(found))
    else:
        _print(found)


def _fields(found: Explanation) -> dict[str, Any]:
    nearest = None
    if found.nearest is not None:
        nearest = {
            "key": found.nearest.entry.key,
            "created": found.nearest.entry.created,
            "labels": dict(found.nearest.entry.labels),
            "other_layer": found.nearest.other_layer,
            "differences": [asdict(each) for each in found.nearest.differences],
        }
    return {
        "state": found.state,
        "reason": found.reason,
        "detail": found.detail,
        "key": found.key,
        "material": found.material,
        "left_out": list(found.left_out),
        "created": None if found.entry is None else found.entry.created,
        "labels": None if found.entry is None else dict(found.entry.labels),
        "nearest": nearest,
        "compared": found.compared,
        "unread": found.unread,
    }


def _print(found: Explanation) -> None:
    output.line(str(found))
    if found.entry is not None:
        output.line(f"created: {output.moment(found.entry.created)}")
    if found.material is not None:
        output.line("made of:")
        for name, value in found.material.items():
            output.line(f"  {name:<10} {_short(value)}")
    if found.reason == "stream":
        output.note("programs that record streams: see casstore explain --streams")


def _short(value: object) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}… ({format_size(len(text))})"  # noqa: PLR2004 — about a line

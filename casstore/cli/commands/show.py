"""``casstore show``.  Floor: cli."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import click

from casstore.cli import output
from casstore.cli.command import command, json_option
from casstore.cli.commands.ls import entry_fields
from casstore.cli.content import ABSENT, Content, read_content
from casstore.cli.conversation import answer_lines, request_lines
from casstore.config import format_size
from casstore.digest import Digest, Key
from casstore.errors import BackendError, NotFoundError

if TYPE_CHECKING:
    from casstore.catalog.records import Entry
    from casstore.cli.app import Application
    from casstore.repo.repository import Repository


@command(
    "show",
    examples="""
    casstore show 1f3a9c0b2d4e
    casstore show 1f3a --raw
    casstore show 1f3a --json | jq -r '.said[].parts[].text'
    """,
)
@click.argument("key")
@click.option("--raw", is_flag=True, help="Request and response as they are stored.")
@json_option
def show(app: Application, key: str, *, raw: bool, as_json: bool) -> None:
    """Show an entry: labels, request, response.

    Of whatever provider: messages, calls of tools, options; a recorded stream as its whole reply. Images
    and other large parts are named. The request is shown where it was stored. KEY may be its first digits,
    four at least, as long as no other key starts alike. A response that is not here is fetched from the
    remote that is known to hold it.
    """
    with app.repository() as repo:
        entry = repo.entry(repo.resolve(key.lower()))
        request = _request(repo, entry)
        content = _response(repo, entry.key)
    response = ABSENT if content is None else read_content(content)
    if as_json:
        output.document(
            entry_fields(entry, None if content is None else len(content))
            | {"request": request.value, "response": response.value, "response_kind": response.kind}
            | _conversation(request, content)
        )
        return
    _print_entry(entry, content)
    _print("request", request, None if raw else _request_lines(request))
    _print("response", response, None if raw or content is None else _answer_lines(content))


def _request(repo: Repository, entry: Entry) -> Content:
    """Return the stored request: the object whose digest is the key."""
    digest = Digest(entry.key)
    return read_content(repo.get(digest)) if digest in entry.refs and repo.has(digest) else ABSENT


def _response(repo: Repository, key: Key) -> bytes | None:
    try:
        return repo.read_entry(key)[1]
    except (NotFoundError, BackendError) as error:
        output.note(f"the response is not here: {error}")
        return None


def _conversation(request: Content, content: bytes | None) -> dict[str, Any]:
    """Return what was said, in one form whoever the provider."""
    from casstore.inference.reading.stored import read_answer, turns_asked

    answer = None if content is None else read_answer(content)
    asked = turns_asked(request.value) if isinstance(request.value, dict) else []
    said = [] if answer is None else answer.turns
    return {"asked": [turn.as_json() for turn in asked], "said": [turn.as_json() for turn in said]}


def _request_lines(request: Content) -> list[str] | None:
    """Return a request as a conversation; None where it is none."""
    from casstore.inference.reading.stored import turns_asked

    value = request.value
    return list(request_lines(value)) if isinstance(value, dict) and turns_asked(value) else None


def _answer_lines(content: bytes) -> list[str] | None:
    from casstore.inference.reading.stored import read_answer

    answer = read_answer(content)
    return None if answer is None else list(answer_lines(answer))


def _print_entry(entry: Entry, content: bytes | None) -> None:
    size = "" if content is None else f"  ({format_size(len(content))})"
    output.line(f"key         {entry.key}")
    output.line(f"object      {entry.object}{size}")
    output.line(f"created     {output.moment(entry.created)}")
    output.line(f"generation  {entry.generation}")
    for name, value in sorted(_labels(entry).items()):
        output.line(f"{name:<10}  {value if isinstance(value, str) else json.dumps(value)}")


def _labels(entry: Entry) -> dict[str, Any]:
    """Return the labels, that of the model with the name by which it answered."""
    labels = dict(entry.labels)
    if isinstance(labels.get("model"), str) and isinstance(labels.get("answered_by"), str):
        answered = labels.pop("answered_by")
        if answered not in {"", labels["model"]}:
            labels["model"] += f", answered by {answered}"
    return labels


def _print(title: str, content: Content, lines: list[str] | None) -> None:
    if content is not ABSENT:
        text = str(content) if lines is None else "\n".join(lines).removeprefix("\n")
        output.line(f"\n{title}\n{textwrap.indent(text, '  ')}")
